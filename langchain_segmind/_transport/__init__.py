"""The only I/O: what a flow describes is performed here."""
