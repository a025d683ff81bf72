"""The jobs of a bench on a cluster, by submitit."""
