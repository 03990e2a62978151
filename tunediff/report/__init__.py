"""What a reader sees: tables, pictures, the page, the model card."""
