"""Find, load, adapt, save and reload pretrained models; batches through a model."""
