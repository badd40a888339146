"""The runtime over OpenVINO: encoders with their heads, on the processor."""
