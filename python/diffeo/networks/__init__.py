"""From networks and inputs to what they measure: activations and `Observation`s. The only folder that imports torch.

In order: layer_names, batches -> reduction, sinks, looking -> recipes, model_state -> hooks, memory_need -> derivatives,
responses -> bursts -> measurement -> shards -> capture_activations, observe_networks -> choice -> neuron_choice, saved.
"""
