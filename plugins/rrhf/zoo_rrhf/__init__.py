"""RRHF: make likelier what scores higher."""
