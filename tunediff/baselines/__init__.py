"""What there is without fine-tuning: majority, TF-IDF, probe, untrained head; likely label noise."""
