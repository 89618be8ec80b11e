"""Pytrees: containers are taken apart and put together again, and messages name a leaf by its path."""

from __future__ import annotations

import dataclasses
import functools
from collections import OrderedDict, defaultdict, deque, namedtuple
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
from funcgrad import tree

Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Layer:
    weight: Any
    bias: Any
    name: str = dataclasses.field(default="layer", metadata={"static": True})


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    child: Any
    norm: Any = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", "computed")


@dataclasses.dataclass
class Child(Layer):
    extra: Any = None


leaf = st.integers() | st.floats(allow_nan=False) | st.text(max_size=2) | st.booleans()
trees = st.recursive(
    leaf | st.none(),
    lambda sub: (
        st.lists(sub, max_size=3)
        | st.tuples(sub, sub)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 3), sub, max_size=3)
        | st.builds(Point, sub, sub)
        | st.builds(Layer, sub, sub, st.sampled_from(["a", "b"]))
        | st.dictionaries(st.text(max_size=2), sub, max_size=2).map(OrderedDict)
        | st.lists(sub, max_size=2).map(deque)
    ),
    max_leaves=8,
)
some = settings(max_examples=50)


@some
@given(t=trees)
def test_unflatten_undoes_flatten(t: Any) -> None:
    leaves, structure = tree.flatten(t)
    back = tree.unflatten(structure, leaves)
    assert back == t
    assert type(back) is type(t)
    assert (tree.leaves(t), tree.structure(t)) == (leaves, structure)


@some
@given(t=trees)
def test_map_of_a_composite_is_the_composite_of_maps(t: Any) -> None:
    f, g = (lambda x: (str(x), 1)[0]), (lambda s: s + "!")
    assert tree.map(lambda x: g(f(x)), t) == tree.map(g, tree.map(f, t))
    assert tree.map(lambda x: x, t) == t
    assert tree.structure(tree.map(f, t)) == tree.structure(t)


@some
@given(t=trees)
def test_map_pairs_the_leaves_at_the_same_place(t: Any) -> None:
    other = tree.map(lambda x: ("second", x)[1:][0], t)
    assert tree.leaves(tree.map(lambda a, b, c: (a == b == c) or "differs", t, other, t)) == [True] * len(
        tree.leaves(t)
    )


@some
@given(t=trees)
def test_paths_lead_to_the_leaves(t: Any) -> None:
    found, structure = tree.flatten_with_path(t)
    assert structure == tree.structure(t)
    assert [x for _, x in found] == tree.leaves(t)
    for path, x in found:
        assert eval(f"t{path}") == x
    assert tree.leaves(tree.map_with_path(lambda path, x: path, t)) == [path for path, _ in found]


def test_the_leaves_of_a_dict_are_sorted_by_key_and_the_dict_keeps_its_order() -> None:
    assert tree.leaves({"b": 1, "a": 2}) == tree.leaves({"a": 2, "b": 1}) == [2, 1]
    assert tree.structure({"b": 1, "a": 2}) == tree.structure({"a": 1, "b": 2})
    assert list(tree.map(abs, {"b": -1, "a": -2})) == ["b", "a"]
    assert tree.leaves(OrderedDict(b=1, a=2)) == [1, 2]


def test_keys_that_do_not_compare_are_sorted_by_their_type() -> None:
    t = {"a": 1, 2: 2, None: 3, (0,): 4}
    assert tree.leaves(t) == tree.leaves(dict(reversed(t.items()))) == [3, 2, 1, 4]
    assert list(tree.map(lambda x: x, t).items()) == list(t.items())
    gradient = fg.grad(lambda p: p["a"] * p[2])({"a": 3.0, 2: 5.0})
    assert gradient == {"a": 5, 2: 3}


def test_none_is_a_container_without_leaves() -> None:
    assert tree.leaves([None, 1, {"a": None}]) == [1]
    assert tree.map(lambda x: x + 1, (None, 1)) == (None, 2)


def test_containers_of_the_standard_library_keep_their_type() -> None:
    d = defaultdict(list, {"b": [1], "a": [2]})
    back = tree.map(lambda x: -x, d)
    assert type(back) is defaultdict
    assert back.default_factory is list
    assert back == {"a": [-2], "b": [-1]}
    q = tree.map(lambda x: -x, deque([1, 2], maxlen=5))
    assert (type(q), q.maxlen, list(q)) == (deque, 5, [-1, -2])
    assert tree.map(lambda x: -x, Point(1, 2)) == Point(-1, -2)


def test_strings_and_arrays_are_leaves() -> None:
    a = np.ones(2)
    assert tree.leaves({"s": "text", "b": b"bytes", "n": 1 + 2j}) == [b"bytes", 1 + 2j, "text"]
    assert tree.leaves("text") == ["text"]
    assert tree.leaves(a)[0] is a


# ── dataclasses


def test_a_dataclass_needs_no_registration() -> None:
    layer = Layer(1, {"b": 2}, "first")
    assert tree.leaves(layer) == [1, 2]
    assert tree.map(lambda x: 10 * x, layer) == Layer(10, {"b": 20}, "first")
    assert tree.map(lambda x: -x, Child(1, 2, extra=[3])) == Child(-1, -2, extra=[-3])


def test_a_static_field_belongs_to_the_structure() -> None:
    assert tree.structure(Layer(1, 2, "a")) == tree.structure(Layer(3, 4, "a"))
    assert tree.structure(Layer(1, 2, "a")) != tree.structure(Layer(1, 2, "b"))


def test_a_field_that_init_does_not_take_is_computed_again() -> None:
    back = tree.map(lambda x: -x, Frozen([1, 2]))
    assert back == Frozen([-1, -2])
    assert back.norm == "computed"
    assert tree.leaves(Frozen(1)) == [1]


def test_a_dataclass_inside_a_container_inside_a_dataclass() -> None:
    t = {"net": [Layer(1, Frozen(2)), Layer(3, None)]}
    assert tree.leaves(t) == [1, 2, 3]
    assert [path for path, _ in tree.flatten_with_path(t)[0]] == [
        "['net'][0].weight",
        "['net'][0].bias.child",
        "['net'][1].weight",
    ]


def test_the_class_of_a_dataclass_is_a_leaf() -> None:
    assert tree.leaves([Layer, 1]) == [Layer, 1]


def test_threads_may_meet_a_dataclass_for_the_first_time_together() -> None:
    for _ in range(20):
        fresh = dataclasses.make_dataclass("Fresh", ["a", "b"])
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(tree.leaves, [fresh(1, 2)] * 8)) == [[1, 2]] * 8


# ── registered nodes


def test_a_registered_class_is_a_container() -> None:
    class Pair:
        def __init__(self, a: Any, b: Any, label: str) -> None:
            self.a, self.b, self.label = a, b, label

    tree.register_pytree_node(Pair, lambda p: ([p.a, p.b], p.label), lambda label, children: Pair(*children, label))
    doubled = tree.map(lambda x: 2 * x, Pair(1, [2], "p"))
    assert (doubled.a, doubled.b, doubled.label) == (2, [4], "p")
    gradient = fg.grad(lambda p: p.a * p.b)(Pair(2.0, 3.0, "q"))
    assert (gradient.a, gradient.b, gradient.label) == (3, 2, "q")
    with pytest.raises(ValueError, match="already registered"):
        tree.register_pytree_node(Pair, lambda p: ([], None), lambda _, children: Pair(0, 0, ""))


def test_a_class_is_registered_by_its_methods() -> None:
    @tree.register_pytree_node_class
    class Box:
        def __init__(self, content: Any, label: str) -> None:
            self.content, self.label = content, label

        def tree_flatten(self) -> Any:
            return [self.content], self.label

        @classmethod
        def tree_unflatten(cls, label: str, children: Any) -> Any:
            return cls(*children, label)

    box = tree.map(lambda x: x + 1, {"box": Box([1, 2], "b")})["box"]
    assert (type(box), box.content, box.label) == (Box, [2, 3], "b")
    assert tree.leaves_with_path(box) == [("[<flat index 0>][0]", 2), ("[<flat index 0>][1]", 3)]
    gradient = fg.grad(lambda box: box.content**2)(Box(3.0, "c"))
    assert (gradient.content, gradient.label) == (6, "c")
    with pytest.raises(fg.errors.ArgumentError, match=r"Layer lacks tree_flatten\(self\)"):
        tree.register_pytree_node_class(Layer)


def test_the_fields_of_a_dataclass_may_be_named() -> None:
    @dataclasses.dataclass
    class Net:
        weight: Any
        size: int
        name: str

    assert tree.register_dataclass(Net, ["weight"], ["size", "name"]) is Net
    net = Net([1, 2], 2, "net")
    assert tree.leaves(net) == [1, 2]
    assert tree.map(lambda x: -x, net) == Net([-1, -2], 2, "net")
    assert tree.structure(net) != tree.structure(Net([1, 2], 3, "net"))
    assert tree.leaves_with_path(net)[1] == (".weight[1]", 2)
    with pytest.raises(fg.errors.TreeError, match=r"at \.weight: 2 elements vs 1"):
        tree.map(lambda a, b: a, net, Net([1], 2, "net"))
    tree.register_dataclass(Net, ("weight",), ("size", "name"))
    with pytest.raises(fg.errors.ArgumentError, match="Net is a container already, with the children weight\n"):
        tree.register_dataclass(Net, ["weight", "size"], ["name"])


def test_the_marks_of_a_dataclass_are_the_default() -> None:
    @tree.register_dataclass
    @dataclasses.dataclass
    class Marked:
        weight: Any
        name: str = dataclasses.field(metadata={"static": True})

    assert tree.leaves(Marked(1, "m")) == [1]
    assert tree.register_dataclass(Layer) is Layer
    assert tree.leaves(Layer(1, 2)) == [1, 2]


def test_a_class_with_named_fields_need_not_be_a_dataclass() -> None:
    class Plain:
        def __init__(self, *, a: Any, b: Any) -> None:
            self.a, self.b = a, b

    tree.register_dataclass(Plain, ["a"], ["b"])
    plain = tree.map(lambda x: -x, Plain(a=1, b=2))
    assert (plain.a, plain.b) == (-1, 2)


@pytest.mark.parametrize(
    ("register", "words"),
    [
        (lambda: tree.register_dataclass(int), "int is not a dataclass"),
        (lambda: tree.register_dataclass(Child, ["weight"]), "data_fields and meta_fields go together"),
        (lambda: tree.register_dataclass(Child, ["weight"], ["bias"]), "weight, bias, name, extra, not weight, bias"),
        (lambda: tree.register_dataclass(Child, ["weights"], []), "not weights"),
        (lambda: tree.register_static(Layer), "Layer have no hash | frozen=True"),
    ],
)
def test_what_cannot_be_registered_is_refused(register: Any, words: str) -> None:
    with pytest.raises(fg.errors.ArgumentError) as caught:
        register()
    for part in words.split(" | "):
        assert part in str(caught.value)


def test_a_static_value_belongs_to_the_structure() -> None:
    @tree.register_static
    @dataclasses.dataclass(frozen=True)
    class Settings:
        activation: str

    settings = Settings("tanh")
    params = {"w": 2.0, "settings": settings}
    assert tree.leaves(params) == [2.0]
    assert tree.map(lambda x: -x, params)["settings"] is settings
    assert tree.structure(settings) == tree.structure(Settings("tanh")) != tree.structure(Settings("relu"))
    assert hash(tree.structure(settings)) == hash(tree.structure(Settings("tanh")))
    gradient = fg.grad(lambda p: p["w"] ** 2 if p["settings"].activation == "tanh" else p["w"])(params)
    assert gradient == {"w": 4, "settings": settings}


# ── Partial


def affine(w: Any, x: Any, *, b: Any = 0.0) -> Any:
    return w * x + b


def test_partial_is_partial() -> None:
    f = tree.Partial(affine, 2.0, b=1.0)
    assert f(10.0) == 21.0
    assert isinstance(f, functools.partial)
    assert (f.func, f.args, f.keywords) == (affine, (2.0,), {"b": 1.0})
    assert tree.Partial(f, 10.0)() == 21.0
    assert tree.leaves(tree.Partial(f, 10.0)) == [2.0, 10.0, 1.0]


def test_what_partial_binds_are_leaves() -> None:
    f = tree.Partial(affine, [2.0][0], b=1.0)
    assert tree.leaves_with_path({"f": f}) == [("['f'].args[0]", 2.0), ("['f'].keywords['b']", 1.0)]
    assert tree.structure(f) == tree.structure(tree.Partial(affine, 5.0, b=6.0))
    assert tree.structure(f) != tree.structure(tree.Partial(max, 5.0, b=6.0))
    gradient = fg.grad(lambda f: f(10.0))(f)
    assert (type(gradient), gradient.func, gradient.args, gradient.keywords) == (tree.Partial, affine, (10,), {"b": 1})


def test_what_a_plain_partial_binds_is_part_of_the_function() -> None:
    plain = functools.partial(affine, b=1.0)
    f = tree.Partial(plain, 2.0)
    assert tree.leaves(plain) == [plain]
    assert tree.leaves(f) == [2.0]
    assert f(10.0) == 21.0
    assert tree.structure(f) == tree.structure(tree.Partial(plain, 3.0))
    assert tree.map(lambda x: 2 * x, f)(10.0) == 41.0


# ── broadcast


def test_broadcast_repeats_the_leaves_of_a_prefix() -> None:
    full = {"b": [1, (2, 3)], "a": Point(4, None)}
    assert tree.broadcast(0, full) == {"b": [0, (0, 0)], "a": Point(0, None)}
    assert tree.broadcast({"a": 8, "b": [9, 7]}, full) == {"b": [9, (7, 7)], "a": Point(8, None)}
    assert list(tree.broadcast({"a": 8, "b": 9}, full)) == ["b", "a"]
    assert tree.broadcast(0, ()) == ()


@some
@given(t=trees)
def test_a_tree_is_a_prefix_of_itself_and_a_leaf_of_every_tree(t: Any) -> None:
    assert tree.broadcast(t, t) == t
    everywhere = tree.broadcast("x", t)
    assert tree.structure(everywhere) == tree.structure(t)
    assert set(tree.leaves(everywhere)) <= {"x"}


def test_a_prefix_that_does_not_fit_is_refused_with_the_place() -> None:
    with pytest.raises(fg.errors.TreeError, match=r"tree.broadcast: .* at \['b'\]: 2 elements vs 1"):
        tree.broadcast({"a": 1, "b": [1, 2]}, {"a": (1, 2), "b": [3]})
    none = lambda node: node is None
    assert tree.broadcast((None, 0), ([1, 2], 3), is_leaf=none) == ([None, None], 0)
    with pytest.raises(fg.errors.TreeError, match=r"at \[1\]: a list vs an int"):
        tree.broadcast((None, [0]), ([1, 2], 3), is_leaf=none)
    with pytest.raises(fg.errors.TreeError, match=r"at \[0\]: None vs a list"):
        tree.broadcast((None, 0), ([1, 2], 3))


# ── paths


def test_a_path_in_other_forms() -> None:
    t = {"layers": [Layer({"a/b": 1, 0: 2, (1, 2): 3}, None)]}
    found = tree.leaves_with_path(t)
    assert [tree.keystr(path) for path, _ in found] == [path for path, _ in found]
    assert [tree.keystr(path, simple=True, separator=".") for path, _ in found] == [
        "layers.0.weight.0",
        "layers.0.weight.a/b",
        "layers.0.weight.(1, 2)",
    ]
    assert tree.keystr("", simple=True) == ""
    assert tree.keystr("[<flat index 1>].x", simple=True, separator="/") == "1/x"


def test_functions_with_paths_take_further_trees_and_is_leaf() -> None:
    assert tree.map_with_path(lambda path, a, b: (path, a + b), [1, {"k": 2}], [10, {"k": 20}]) == [
        ("[0]", 11),
        {"k": ("[1]['k']", 22)},
    ]
    pair = lambda node: isinstance(node, tuple)
    assert tree.map_with_path(lambda path, node: path, {"p": (1, 2)}, is_leaf=pair) == {"p": "['p']"}
    assert tree.leaves_with_path({"p": (1, 2)}, is_leaf=pair) == [("['p']", (1, 2))]
    assert tree.reduce(lambda n, node: n + len(node), [(1, 2), (3,)], 0, is_leaf=pair) == 3
    assert tree.all([(), (1,)], is_leaf=pair) is False


# ── gradients come back in the containers of the argument


@pytest.mark.parametrize(
    "params",
    [
        {"b": 2.0, "a": 3.0},
        {"b": 2.0, 1: 3.0},
        [2.0, 3.0],
        (2.0, 3.0),
        Point(2.0, 3.0),
        OrderedDict(z=2.0, a=3.0),
        defaultdict(list, {"z": 2.0, "a": 3.0}),
        deque([2.0, 3.0], maxlen=2),
        {"x": None, "y": (2.0, [None, 3.0])},
        Layer(2.0, 3.0, "l"),
        tree.Partial(affine, 2.0, b=3.0),
    ],
    ids=lambda params: type(params).__name__,
)
def test_a_gradient_comes_back_in_the_same_containers(params: Any) -> None:
    gradient = fg.grad(lambda p: tree.reduce(lambda a, b: a + b**2, p, 0.0))(params)
    assert type(gradient) is type(params)
    assert tree.structure(gradient) == tree.structure(params)
    assert tree.leaves(gradient) == [2 * x for x in tree.leaves(params)]
    if isinstance(params, dict):
        assert list(gradient) == list(params)
    if isinstance(params, defaultdict):
        assert gradient.default_factory is list


# ── reduce, all, transpose


def test_reduce_combines_the_leaves_from_the_left() -> None:
    assert tree.reduce(lambda a, b: f"({a}{b})", {"b": "z", "a": ["x", "y"]}) == "((xy)z)"
    assert tree.reduce(lambda a, b: a + b, [1, 2], 10) == 13
    assert tree.reduce(lambda a, b: a + b, [], 10) == 10
    with pytest.raises(TypeError, match="needs an initial value"):
        tree.reduce(lambda a, b: a + b, {"a": None})


def test_all_is_true_if_every_leaf_is() -> None:
    assert tree.all({"a": [1, True], "b": "x"})
    assert not tree.all({"a": [1, 0]})
    assert tree.all([])


def test_transpose_turns_a_tree_of_trees_inside_out() -> None:
    inner, outer = tree.structure(Point(0, [0])), tree.structure({"a": 0, "b": 0})
    t = {"a": Point(1, [2]), "b": Point(3, [4])}
    turned = tree.transpose(outer, inner, t)
    assert turned == Point({"a": 1, "b": 3}, [{"a": 2, "b": 4}])
    assert tree.transpose(inner, outer, turned) == t


# ── refusals


@pytest.mark.parametrize(
    ("bad", "kind"),
    [({1, 2}, "set"), (frozenset({1}), "frozenset"), ((x for x in "ab"), "generator"), (iter([1]), "list_iterator")],
)
@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda bad: bad, ""),
        (lambda bad: {"w": [1.0, bad]}, r"\['w'\]\[1\]"),
        (lambda bad: Layer(1.0, Point(bad, 2.0)), r"\.bias\.x"),
    ],
)
def test_a_set_or_an_iterator_cannot_be_a_leaf(bad: Any, kind: str, wrap: Any, path: str) -> None:
    with pytest.raises(
        fg.errors.TreeError, match=rf"^\[FG013\] a {kind} cannot be part of a pytree.*{path}\n"
    ) as caught:
        tree.leaves(wrap(bad))
    assert isinstance(caught.value, ValueError)
    assert "Fix: pass a list or a tuple" in str(caught.value)
    assert "test_tree.py" in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        ({"a": 1}, {"b": 1}, "at the root: keys {'a'} vs {'b'}"),
        ({"a": 1}, [1], "at the root: a dict vs a list"),
        ([1, 2], [1, 2, 3], "at the root: 2 elements vs 3"),
        ({"a": [1, (2, 3)]}, {"a": [1, (2,)]}, "at ['a'][1]: 2 elements vs 1"),
        ({"a": [1, 2], "b": 1}, {"a": [1], "b": (1, 2)}, "at ['a']: 2 elements vs 1"),
        ({"a": 1, "b": [1, 2]}, {"a": (5, 6), "b": [1]}, "at ['b']: 2 elements vs 1"),
        ([None, 1], [2, 3], "at [0]: None vs an int"),
        (Point(1, [2]), Point(1, 2), "at .y: a list vs an int"),
        (Layer(1, [2]), Layer(1, (2,)), "at .bias: a list vs a tuple"),
        (Layer([1], 2), {"weight": [1]}, "at the root: a Layer vs a dict"),
        ([Layer([1], 2)], [Layer([1, 2], 2)], "at [0].weight: 1 elements vs 2"),
    ],
)
def test_map_says_where_trees_differ(first: Any, second: Any, difference: str) -> None:
    with pytest.raises(fg.errors.TreeError) as caught:
        tree.map(lambda *leaves: leaves, first, first, second)
    assert str(caught.value).startswith(f"[FG013] tree.map: tree 3 differs from the first {difference}\n")
    assert isinstance(caught.value, ValueError)


def test_map_lets_the_other_trees_go_deeper() -> None:
    assert tree.map(lambda a, b: (a, b), {"a": 1}, {"a": [2, 3]}) == {"a": (1, [2, 3])}


def test_static_fields_that_differ_do_not_match() -> None:
    with pytest.raises(fg.errors.TreeError, match="tree 2 differs from the first at the root"):
        tree.map(lambda a, b: a, Layer(1, 2, "a"), Layer(1, 2, "b"))


@pytest.mark.parametrize(("a", "b"), [(1, 1.0), (1, True), (0.0, -0.0), ((1,), (1.0,)), ((0.0,), (-0.0,))], ids=str)
def test_static_fields_are_told_apart_by_type_and_sign(a: Any, b: Any) -> None:
    assert tree.structure(Layer(1, 2, a)) != tree.structure(Layer(1, 2, b))
    assert tree.structure(Layer(1, 2, a)) == tree.structure(Layer(1, 2, a))


def test_unflatten_counts_the_leaves() -> None:
    structure = tree.structure({"a": 1, "b": [2, 3]})
    with pytest.raises(fg.errors.TreeError, match="has 3 leaves, but 2 were given"):
        tree.unflatten(structure, [1, 2])
    with pytest.raises(fg.errors.TreeError, match="has 3 leaves, but 4 were given"):
        tree.unflatten(structure, iter(range(4)))
    assert tree.unflatten(structure, iter("xyz")) == {"a": "x", "b": ["y", "z"]}


def test_transpose_needs_an_outer_tree_of_inner_trees() -> None:
    with pytest.raises(fg.errors.TreeError, match="not an outer tree of inner trees"):
        tree.transpose(tree.structure([0, 0]), tree.structure({"a": 0}), [{"a": 1}, {"b": 2}])


# ── ravel_pytree


def test_ravel_pytree_puts_all_leaves_in_one_vector() -> None:
    t = {"w": np.arange(6.0).reshape(2, 3), "b": [np.float64(7.0), np.array(8.0)], "none": None}
    flat, unravel = tree.ravel_pytree(t)
    np.testing.assert_array_equal(flat, [7, 8, 0, 1, 2, 3, 4, 5])
    back = unravel(flat)
    assert tree.structure(back) == tree.structure(t)
    for a, b in zip(tree.leaves(back), tree.leaves(t), strict=True):
        assert (np.shape(a), np.asarray(a).dtype) == (np.shape(b), np.asarray(b).dtype)
        np.testing.assert_array_equal(a, b)


def test_ravel_pytree_keeps_the_dtypes() -> None:
    t = (np.ones(2, np.float32), np.zeros(1, np.float64), np.arange(2))
    flat, unravel = tree.ravel_pytree(t)
    assert flat.dtype == np.float64
    assert [x.dtype for x in unravel(flat)] == [np.float32, np.float64, np.int64]
    assert tree.ravel_pytree((np.ones(2, np.float32), np.ones((), np.float16)))[0].dtype == np.float32


def test_ravel_pytree_is_differentiable_both_ways() -> None:
    t = {"w": np.array([[1.0, 2.0]]), "b": np.array([3.0])}
    flat, unravel = tree.ravel_pytree(t)
    loss = lambda p: (p["w"] ** 2).sum() * p["b"].sum()
    np.testing.assert_allclose(fg.grad(lambda v: loss(unravel(v)))(flat), tree.ravel_pytree(fg.grad(loss)(t))[0])
    weights = np.array([1.0, 10.0, 100.0])
    gradient = fg.grad(lambda p: (tree.ravel_pytree(p)[0] * weights).sum())(t)
    np.testing.assert_array_equal(gradient["b"], [1.0])
    np.testing.assert_array_equal(gradient["w"], [[10.0, 100.0]])


def test_unravel_refuses_a_vector_of_another_length() -> None:
    _, unravel = tree.ravel_pytree([np.ones(2), np.ones(3)])
    with pytest.raises(ValueError, match="5"):
        unravel(np.ones(4))


def test_ravel_pytree_of_no_leaves() -> None:
    flat, unravel = tree.ravel_pytree({"a": None})
    assert flat.shape == (0,)
    assert unravel(flat) == {"a": None}


def test_the_module_offers_these_names() -> None:
    assert set(tree.__all__) == {
        *("map", "leaves", "flatten", "unflatten", "structure", "reduce", "all", "transpose", "broadcast"),
        *("flatten_with_path", "leaves_with_path", "map_with_path", "keystr", "ravel_pytree"),
        *("register_pytree_node", "register_pytree_node_class", "register_dataclass", "register_static", "Partial"),
    }


def test_is_leaf_stops_the_descent() -> None:
    pairs = {"a": (1, 2), "b": (3, 4)}
    assert tree.leaves(pairs, is_leaf=lambda node: isinstance(node, tuple)) == [(1, 2), (3, 4)]
    assert tree.map(sum, pairs, is_leaf=lambda node: isinstance(node, tuple)) == {"a": 3, "b": 7}
