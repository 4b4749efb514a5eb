"""Networks saved by Keras 2 as .h5, which Keras 3 refuses to read or reads wrongly.

`config` brings the description of the network to Keras 3 (tables of remedies per layer class) and
`graph` its connections; `ops` replaces the TensorFlow functions that Keras 2 kept in a graph by
layers (with `arithmetic`, `movements` and, where Keras 3 has no layer, `operations`), `lambdas`
reads Python code, `layers` holds the two things that Keras 3 has no layer for, and `weights` fills
the network by name. The file itself is only read.
"""
