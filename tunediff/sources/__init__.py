"""Readers of files and Hub data sets; cleaning and splitting."""
