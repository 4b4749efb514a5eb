"""From a float network to a quantized Keras model: chosen, planned, built, calibrated."""
