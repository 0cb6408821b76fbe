"""The relay that joins visitors and devices, and the program that connects to it."""
