"""What others built, started for real and measured by the same code as ours."""
