"""The paper's third experiment: pictures of a rotating horse.

In order: solid, autoencoder -> turntable, turn -> drawings -> few_neurons -> experiment.
"""
