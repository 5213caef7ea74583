"""The parts of a batch: a file of requests, a file of answers, a budget, and what runs them."""
