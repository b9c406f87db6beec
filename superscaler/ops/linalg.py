"""Rules of linear algebra on batches of matrices: leading dims parallel, the matrices whole."""

from __future__ import annotations

from superscaler.graph.rule import Dims, Operands, Rule
from superscaler.ops.build import RuleBuilder
from superscaler.ops.registry import frozen_rule, rule


@rule("superscaler.checked.default")
def checked(op: Operands) -> Rule:
    """Each matrix is right or not, whatever part of it is read."""
    x, info = op.inputs
    build = RuleBuilder()
    dims = build.dims("d", x)
    return build.rule((dims, dims[: len(info)]), (dims,))


@rule(
    "aten._linalg_det.default",
    "aten._linalg_eigh.default",
    "aten._linalg_slogdet.default",
    "aten._linalg_solve_ex.default",
    "aten._linalg_svd.default",
    "aten.linalg_cholesky_ex.default",
    "aten.linalg_eig.default",
    "aten.linalg_inv_ex.default",
    "aten.linalg_lu_factor_ex.default",
    "aten.linalg_lu_solve.default",
    "aten.linalg_qr.default",
    "aten.linalg_solve_triangular.default",
    "aten.linalg_matrix_exp.default",
)
def matrices(op: Operands) -> Rule:
    """Matrices, or vectors, of one batch each; what is broadcast over the batch freezes all."""
    first = op.inputs[0]
    batch = first[:-2]
    shapes = (*op.inputs, *op.outputs)
    is_batch = all(len(x) == len(first) or x == first[:-1] for x in op.inputs)
    if not is_batch or any(shape[: len(batch)] != batch for shape in shapes if shape):
        return frozen_rule(op)
    build = RuleBuilder()
    lead = build.dims("d", batch)

    def operand(i: int, shape: tuple[int, ...]) -> Dims:
        return (*lead, *build.dims(f"m{i}_", shape[len(batch) :], frozen=True)) if shape else ()

    operands = [operand(i, shape) for i, shape in enumerate(shapes)]
    return build.rule(operands[: len(op.inputs)], operands[len(op.inputs) :])
