"""The jobs of a bench on Ray, from one machine to a cluster."""
