"""Trained and exported models at work: batch jobs, the service, the export itself."""
