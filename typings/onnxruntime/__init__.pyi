from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__version__: str

class ExecutionMode:
    ORT_SEQUENTIAL: ExecutionMode
    ORT_PARALLEL: ExecutionMode

class GraphOptimizationLevel:
    ORT_DISABLE_ALL: GraphOptimizationLevel
    ORT_ENABLE_BASIC: GraphOptimizationLevel
    ORT_ENABLE_EXTENDED: GraphOptimizationLevel
    ORT_ENABLE_ALL: GraphOptimizationLevel

class SessionOptions:
    intra_op_num_threads: int
    inter_op_num_threads: int
    execution_mode: ExecutionMode
    graph_optimization_level: GraphOptimizationLevel
    enable_mem_pattern: bool
    enable_cpu_mem_arena: bool
    log_severity_level: int
    def add_session_config_entry(self, key: str, value: str) -> None: ...

class RunOptions:
    log_severity_level: int

class NodeArg:
    name: str
    shape: list[int | str]
    type: str

class ModelMetadata:
    custom_metadata_map: dict[str, str]

class OrtValue:
    @staticmethod
    def ortvalue_from_numpy(array: npt.NDArray[Any], device_type: str = "cpu", device_id: int = 0) -> OrtValue: ...
    def numpy(self) -> npt.NDArray[Any]: ...
    def update_inplace(self, array: npt.NDArray[Any]) -> None: ...
    def shape(self) -> list[int]: ...
    def data_ptr(self) -> int: ...

class IOBinding:
    def bind_input(self, name: str, device_type: str, device_id: int, element_type: Any, shape: Sequence[int], buffer_ptr: int) -> None: ...
    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None: ...
    def bind_ortvalue_input(self, name: str, value: OrtValue) -> None: ...
    def bind_ortvalue_output(self, name: str, value: OrtValue) -> None: ...
    def bind_cpu_input(self, name: str, array: npt.NDArray[Any]) -> None: ...
    def copy_outputs_to_cpu(self) -> list[npt.NDArray[np.float32]]: ...
    def clear_binding_inputs(self) -> None: ...
    def clear_binding_outputs(self) -> None: ...

class InferenceSession:
    def __init__(
        self,
        path_or_bytes: str | bytes,
        sess_options: SessionOptions | None = None,
        providers: Sequence[str] | None = None,
        provider_options: Any = None,
    ) -> None: ...
    def run(
        self, output_names: Sequence[str] | None, input_feed: dict[str, npt.NDArray[Any]], run_options: RunOptions | None = None
    ) -> list[npt.NDArray[Any]]: ...
    def run_with_iobinding(self, binding: IOBinding, run_options: RunOptions | None = None) -> None: ...
    def io_binding(self) -> IOBinding: ...
    def get_inputs(self) -> list[NodeArg]: ...
    def get_outputs(self) -> list[NodeArg]: ...
    def get_modelmeta(self) -> ModelMetadata: ...
    def get_providers(self) -> list[str]: ...

def get_available_providers() -> list[str]: ...
