"""Tests of one package each, without network or disk; the whole folder takes seconds."""
