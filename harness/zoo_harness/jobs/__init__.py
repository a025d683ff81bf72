"""What runs in the process of a job: exactly what a result depends on."""
