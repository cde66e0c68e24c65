"""The one configuration: params.yaml, composed of the settings of the components, and the presets."""
