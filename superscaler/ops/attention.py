"""Rules of attention: batch, heads and queries are parallel; head dims are whole.

Keys are whole, too, unless the operator works on blocks of them: `attention_block`, whose partial
results are merged, and a backward that is told how many keys there are.
"""

from __future__ import annotations

from superscaler.graph.operator import Ref
from superscaler.graph.rule import Call, Dims, Local, LocalFunction, Operands, Rule
from superscaler.ops.build import LINEAR_IN_FIRST, RuleBuilder
from superscaler.ops.registry import rule

Shape = tuple[int, ...]
QUERIES, KEYS = "sq", "sk"
NUM_KEYS = 14  # the position of the backward's argument that tells how many keys there are


class _Roles:
    """The axes of attention's tensors; in the backward, splits of what others share are sums."""

    def __init__(
        self, q: Shape, k: Shape, v: Shape, *, causal: bool, backward: bool, blocks: bool = False
    ) -> None:
        self.build = RuleBuilder()
        self.reduce = "sum" if backward else None
        self.lead = self._lead(q, k, v)
        self.heads = q[-3] if len(q) > 2 else 1
        self.kv_heads = k[-3] if len(k) > 2 else 1
        axis = self.build.axis
        self.kv = axis("kv", self.kv_heads, reduce=self.reduce)
        self.group = axis("group", self.heads // self.kv_heads, reduce=self.reduce)
        self.sq = axis(QUERIES, q[-2], reduce=self.reduce, indexed=causal, strided=True)
        merged = self.reduce or "logsumexp"
        self.sk = axis(
            KEYS, k[-2], reduce=merged, indexed=True, frozen=not blocks, cost=1, strided=True
        )
        self.d = axis("d", q[-1], frozen=True)
        self.e = axis("e", v[-1], frozen=backward or blocks)

    def _lead(self, q: Shape, k: Shape, v: Shape) -> Shape:
        count = max(len(q), len(k), len(v)) - 3
        padded = [(1,) * (count + 3 - len(s)) + s for s in (q, k, v)]
        return tuple(max(s[j] for s in padded) for j in range(max(count, 0)))

    def batch(self, shape: Shape) -> Dims:
        """Dims in front of the heads, aligned from the right."""
        added = len(self.lead) - len(shape)
        return tuple(
            () if n == 1 else self.build.axis(f"b{added + j}", n, reduce=self.reduce)
            for j, n in enumerate(shape)
        )

    def operand(self, shape: Shape, *last: tuple[str, ...]) -> Dims:
        """A tensor (..., heads, *last), of all heads or those of keys."""
        at = len(shape) - len(last) - 1
        if at < 0:
            return last
        is_grouped = shape[at] == self.heads and self.heads != 1
        heads = (*self.kv, *self.group) if is_grouped else self.kv if shape[at] != 1 else ()
        return (*self.batch(shape[:at]), heads, *last)

    def mask(self, shape: Shape) -> Dims:
        """A mask broadcast to (..., heads, queries, keys)."""
        last = (self.sq, self.sk)[-len(shape) :] if shape else ()
        tail = shape[-len(last) :] if last else ()
        given = tuple(names if n != 1 else () for n, names in zip(tail, last))
        return self.operand(shape, *given) if len(shape) > 2 else given


@rule("superscaler.attention.default")
def attention(op: Operands) -> Rule:
    """`b (kv group) sq d, b kv sk d, b kv sk e -> b (kv group) sq e, b (kv group) sq`"""
    roles = _Roles(*op.inputs[:3], causal=op.args[5], backward=False)
    outputs = [
        roles.operand(op.outputs[0], roles.sq, roles.e),
        roles.operand(op.outputs[1], roles.sq),
    ]
    return _forward(op, roles, outputs[: len(op.outputs)])


@rule("superscaler.attention_block.default")
def attention_block(op: Operands) -> Rule:
    """`b (kv group) sq d, b kv sk d, b kv sk e -> b (kv group) sq partial`"""
    roles = _Roles(*op.inputs[:3], causal=op.args[5], backward=False, blocks=True)
    partial = roles.build.axis("partial", op.outputs[0][-1], frozen=True)
    return _forward(op, roles, [roles.operand(op.outputs[0], roles.sq, partial)])


@rule("superscaler.attention_merged.default")
def attention_merged(op: Operands) -> Rule:
    """`... partial -> ... e, ...`"""
    build = RuleBuilder()
    rows = build.dims("row", op.inputs[0][:-1])
    partial = build.axis("partial", op.inputs[0][-1], frozen=True)
    e = build.axis("e", op.outputs[0][-1], frozen=True)
    return build.rule([(*rows, partial)], [(*rows, e), rows][: len(op.outputs)])


def _forward(op: Operands, roles: _Roles, outputs: list[Dims]) -> Rule:
    q, k, v = op.inputs[:3]
    inputs = [
        roles.operand(q, roles.sq, roles.d),
        roles.operand(k, roles.sk, roles.d),
        roles.operand(v, roles.sk, roles.e),
    ]
    if isinstance(op.args[3], Ref):
        inputs.append(roles.mask(op.shape(op.args[3])))
    return roles.build.rule(
        inputs,
        outputs,
        local=_numbered(8, is_random=op.args[4] > 0, causal=op.args[5]),
        random=op.args[4] > 0,
    )


@rule("superscaler.attention_backward.default", "superscaler.attention_backward_mask.default")
def attention_backward(op: Operands) -> Rule:
    """Keys' and values' gradients sum over queries and the heads of a group, queries' over keys."""
    q, k, v = op.inputs[1:4]
    blocks = len(op.args) > NUM_KEYS and op.args[NUM_KEYS] > 0
    roles = _Roles(q, k, v, causal=op.args[8], backward=True, blocks=blocks)
    out, logsumexp = op.shape(op.args[5]), op.shape(op.args[6])
    dims = {
        "q": roles.operand(q, roles.sq, roles.d),
        "k": roles.operand(k, roles.sk, roles.d),
        "v": roles.operand(v, roles.sk, roles.e),
        "out": roles.operand(out, roles.sq, roles.e),
        "lse": roles.operand(logsumexp, roles.sq),
    }
    masks = [roles.mask(op.shape(op.args[4]))] if isinstance(op.args[4], Ref) else []
    inputs = [dims["out"], dims["q"], dims["k"], dims["v"], *masks, dims["out"], dims["lse"]]
    outputs = [dims["q"], dims["k"], dims["v"], *masks][: len(op.outputs)]
    return roles.build.rule(
        inputs,
        outputs,
        linear=LINEAR_IN_FIRST,
        local=_numbered(11, is_random=op.args[7] > 0, causal=op.args[8]),
        random=op.args[7] > 0,
    )


def _numbered(index_at: int, *, is_random: bool, causal: bool) -> LocalFunction | None:
    """Tells the part which queries and keys it has: for dropout all dims, when causal where they
    start."""
    if not is_random and not causal:
        return None

    def local(call: Call, part: Local) -> Call:
        index = part.index(0) if is_random else []
        start = part.start(QUERIES) if causal else 0
        given = (*call.args[:index_at], index, start)
        strides = (part.stride(QUERIES) if causal else 1, part.stride(KEYS))
        if not part.is_split(KEYS) and strides == (1, 1):
            return Call(call.target, given, {})
        told = call.args[index_at + 3 :] or (0,)
        numbers = (*given, part.start(KEYS), told[0])
        return Call(call.target, numbers if strides == (1, 1) else (*numbers, *strides), {})

    return local
