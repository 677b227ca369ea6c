"""What is generated out of the settings model, the declared metrics and the chart."""
