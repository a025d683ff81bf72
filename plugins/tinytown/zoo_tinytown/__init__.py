"""Tinytown: a family of small worlds, each with a language, a base model, data sets and a gold reward."""
