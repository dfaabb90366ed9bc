"""The network in ONNX Runtime, as a model of Triton's Python backend: the peer of triton_perf.py."""

import json

import numpy
import onnxruntime
import peers_cpu
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        path = f"{args['model_repository']}/{args['model_version']}/model.onnx"
        options = onnxruntime.SessionOptions()
        parameters = json.loads(args["model_config"])["parameters"]
        # 0 is a thread for each core.
        options.intra_op_num_threads = int(parameters["threads"]["string_value"])
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests):
        """One run for all that the batcher gives at a time."""
        images = [triton.get_input_tensor_by_name(one, "image").as_numpy() for one in requests]
        inputs = peers_cpu.normalised(numpy.concatenate(images))
        (logits,) = self.session.run(None, {"image": inputs})
        parts = numpy.split(logits, numpy.cumsum([len(one) for one in images])[:-1])
        tensors = [triton.Tensor("logits", part) for part in parts]
        return [triton.InferenceResponse(output_tensors=[tensor]) for tensor in tensors]
