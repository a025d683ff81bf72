"""Tells the zoo about judges on servers. Everything heavy is imported where it is used."""
