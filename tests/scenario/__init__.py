"""Whole installations, started and struck from outside, with real agents sending to them."""
