"""A whole folder of pictures: pairing, a journal, failures that stop nobody else, on one machine or many."""
