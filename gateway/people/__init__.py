"""People: sign-in, passwords, API tokens, and who a request comes from."""
