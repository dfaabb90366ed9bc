//! ResNet-50 v1.5 as one typed list of fused layers: topology, weights, configuration.
