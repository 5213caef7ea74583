"""The first minute with a key: a chat in the terminal, and a doctor for what is set up wrong."""
