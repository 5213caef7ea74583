"""Each exchange with Segmind, described; nothing here does I/O."""
