"""Tools become words in the prompt, and words of a reply become calls."""
