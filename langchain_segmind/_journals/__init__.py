"""The parts of `langchain_segmind.journals`."""
