"""Ops: laws over the whole table, and the formulas against SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from converters.op_chain import Op, about, parse_op, run, undo
from converters.ops import OPS, UNITS
from rdt_data.errors import RdtError, SpecError

HZ = 12.5
few = settings(max_examples=25, deadline=None)
EXAMPLES = {"number": 0.25, "factor": -12.5, "line": [-0.5, 0.5], "range": [-0.5, 0.5], "order": [2, 0, 1]}
NAMES = sorted(OPS)
REVERSIBLE = [name for name in NAMES if OPS[name].inverse]
STEPWISE = [name for name in NAMES if OPS[name].rowwise]


def example(name: str) -> Op:
    takes = OPS[name].takes
    return parse_op(name if takes == "nothing" else {name: EXAMPLES[takes]})


def width(op: Op) -> int:
    return op.kind.widths[0] if op.kind.widths else len(op.args) if op.kind.takes == "order" else 2


def values(op: Op, *, least_steps: int = 0) -> st.SearchStrategy[np.ndarray]:
    numbers = st.floats(-100, 100, width=32)
    return st.integers(least_steps, 4).flatmap(
        lambda steps: arrays(np.float32, (steps, width(op)), elements=numbers, fill=st.nothing())
    )


@pytest.mark.parametrize("name", NAMES)
@few
@given(data=st.data())
def test_an_op_gives_finite_float32_of_the_declared_width(name: str, data: st.DataObject):
    op = example(name)
    x = data.draw(values(op))
    result = run([op], x, HZ)
    assert (result.shape, result.dtype) == ((len(x), op.width_after(width(op))), np.float32)
    assert np.isfinite(result).all()
    assert op.width_before(result.shape[1]) == width(op)


@pytest.mark.parametrize("name", REVERSIBLE)
@few
@given(data=st.data())
def test_the_inverse_gives_back_what_went_in(name: str, data: st.DataObject):
    op = example(name)
    x = data.draw(values(op))
    if name == "clip":  # exact within its range
        x = run([op], x, HZ)
    there = run([op], x, HZ)
    back = undo([op], there, HZ)
    assert (back.shape, back.dtype) == (x.shape, np.float32)
    if name.startswith("mat4"):  # one of the two parts of a matrix; see below
        assert np.isnan(back).sum() == len(x) * (9 if name.endswith("pos") else 3)
        return
    if op.kind.rotation:  # the same rotation; a quaternion's sign may differ
        again = run([op], back, HZ)
        sign = np.sign(np.sum(again * there, axis=1, keepdims=True)) if "to_quat" in name else 1.0
        np.testing.assert_allclose(again * sign, there, atol=1e-5)
    else:
        np.testing.assert_allclose(back, x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", STEPWISE)
@few
@given(data=st.data())
def test_steps_do_not_influence_each_other(name: str, data: st.DataObject):
    op = example(name)
    x = data.draw(values(op, least_steps=1))
    together = run([op], x, HZ)
    apart = np.concatenate([run([op], row[None], HZ) for row in x])
    np.testing.assert_allclose(together, apart, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in REVERSIBLE if "ortho6d" in name])
@few
@given(data=st.data())
def test_a_networks_output_that_is_no_rotation_becomes_finite_robot_values(name: str, data: st.DataObject):
    op = example(name)
    ortho6d = data.draw(arrays(np.float32, (3, 6), elements=st.floats(-10, 10, width=32)))
    values = undo([op], ortho6d, HZ)
    finite = np.isfinite(values).all(axis=0)
    assert finite.all() or (name.startswith("mat4") and finite.sum() == 13)  # the translation is another field's


@pytest.mark.parametrize("order", ["rowmajor", "colmajor"])
def test_position_and_rotation_of_a_matrix_give_the_matrix_back(order: str):
    matrix = rowmajor(random_rotations())
    x = (matrix if order == "rowmajor" else matrix.swapaxes(1, 2)).reshape(-1, 16)
    parts = [Op(f"mat4_{order}_to_pos"), Op(f"mat4_{order}_to_ortho6d")]
    pos, rotation = (undo([op], run([op], x, HZ), HZ) for op in parts)
    np.testing.assert_allclose(np.where(np.isnan(pos), rotation, pos), x, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_op_is_documented_and_its_units_are_known(name: str):
    assert about(name).endswith((".", ")")) or "->" in about(name)
    for taken, given_units in OPS[name].units.items():
        assert {taken, *given_units} <= set(UNITS)


def random_rotations() -> Rotation:
    return Rotation.random(200, random_state=0)


def random_angles() -> np.ndarray:
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, (200, 3))
    angles[:20, 1], angles[20:40, 1], angles[40] = np.pi / 2, -np.pi / 2, 0.0
    return angles


def ortho6d(rotation: Rotation) -> np.ndarray:
    """First column, then second."""
    matrix = rotation.as_matrix()
    return np.concatenate([matrix[:, :, 0], matrix[:, :, 1]], axis=1)


def rowmajor(rotation: Rotation) -> np.ndarray:
    matrix = np.tile(np.eye(4), (len(rotation), 1, 1))
    matrix[:, :3, :3] = rotation.as_matrix()
    matrix[:, :3, 3] = np.arange(3 * len(rotation)).reshape(-1, 3)
    return matrix


@pytest.mark.parametrize(
    ("name", "x", "rotation"),
    [
        ("euler_xyz_to_ortho6d", random_angles(), Rotation.from_euler("xyz", random_angles())),
        ("euler_zxy_to_ortho6d", random_angles(), Rotation.from_euler("zxy", random_angles())),
        ("quat_xyzw_to_ortho6d", 3 * random_rotations().as_quat(), random_rotations()),
        ("quat_wxyz_to_ortho6d", -np.roll(random_rotations().as_quat(), 1, axis=1), random_rotations()),
        ("axis_angle_to_ortho6d", 2 * random_angles(), Rotation.from_rotvec(2 * random_angles())),
        ("yaw_to_ortho6d", random_angles()[:, :1], Rotation.from_euler("z", random_angles()[:, :1])),
        ("mat4_rowmajor_to_ortho6d", rowmajor(random_rotations()).reshape(-1, 16), random_rotations()),
        ("mat4_colmajor_to_ortho6d", rowmajor(random_rotations()).swapaxes(1, 2).reshape(-1, 16), random_rotations()),
    ],
)
def test_rotations_agree_with_scipy(name: str, x: np.ndarray, rotation: Rotation):
    result = run([Op(name)], x, HZ)
    np.testing.assert_allclose(result, ortho6d(rotation), atol=1e-6)
    if OPS[name].inverse:
        np.testing.assert_allclose(run([Op(name)], undo([Op(name)], result, HZ), HZ), result, atol=2e-6)


@pytest.mark.parametrize(("name", "axes"), [("mat4_rowmajor_to_pos", (1, 2)), ("mat4_colmajor_to_pos", (2, 1))])
def test_the_position_of_a_matrix_is_its_last_column(name: str, axes: tuple[int, int]):
    matrix = np.transpose(rowmajor(random_rotations()), (0, *axes)).reshape(-1, 16)
    np.testing.assert_array_equal(run([Op(name)], matrix, HZ), np.arange(600).reshape(-1, 3))


def test_quaternions_of_angles_agree_with_scipy():
    angles = random_angles()
    quat, expected = run([Op("euler_xyz_to_quat_xyzw")], angles, HZ), Rotation.from_euler("xyz", angles).as_quat()
    np.testing.assert_allclose(np.abs(np.sum(quat * expected, axis=1)), 1, atol=1e-6)
    yaw = run([Op("yaw_to_quat_xyzw")], angles[:, :1], HZ)
    np.testing.assert_allclose(yaw[:, 2:], np.stack([np.sin(angles[:, 0] / 2), np.cos(angles[:, 0] / 2)], 1), atol=1e-6)


def test_a_zero_quaternion_is_the_identity():
    for name in ("quat_xyzw_to_ortho6d", "quat_wxyz_to_ortho6d"):
        assert run([Op(name)], np.zeros((1, 4)), HZ).tolist() == [[1, 0, 0, 0, 1, 0]]


def test_small_ops_do_what_they_say():
    column = np.array([[-1.0], [0.0], [0.5], [1.0]])
    expected = {
        "is_lt 0.5": [1, 1, 0, 0],
        "is_ge 0.5": [0, 0, 1, 1],
        "is_eq 0.5": [0, 0, 1, 0],
        "clip 0 1": [0, 0, 0.5, 1],
        "scale 3": [-3, 0, 1.5, 3],
        "div 2": [-0.5, 0, 0.25, 0.5],
        "affine -0.5 0.5": [1, 0.5, 0.25, 0],
        "invert": [2, 1, 0.5, 0],
        "times_control_hz": [-12.5, 0, 6.25, 12.5],
        "shift_previous": [0, -1, 0, 0.5],
        "mm_to_m": [-0.001, 0, 0.0005, 0.001],
        "deg_to_rad_if_abs_gt 0.9": [-np.pi / 180, 0, 0.5, np.pi / 180],
    }
    for text, result in expected.items():
        name, *args = text.split()
        op = Op(name, tuple(map(float, args)))
        np.testing.assert_allclose(run([op], column, HZ)[:, 0], result, atol=1e-7, err_msg=text)
        assert str(op) == text
    assert run([Op("invert")], np.array([[True], [False]]), HZ).tolist() == [[0], [1]]
    assert run([Op("invert")], np.array([[1]], np.uint8), HZ).tolist() == [[0]]
    assert run([Op("permute", (2, 0, 1))], np.array([[5, 6, 7]]), HZ).tolist() == [[7, 5, 6]]
    assert run([Op("deg_to_rad")], np.array([[180.0]]), HZ) == pytest.approx(np.pi)


def test_a_chain_runs_left_to_right_and_is_undone_right_to_left():
    chain = [parse_op({"scale": 2}), parse_op({"affine": [1, 3]})]
    assert run(chain, np.array([[1.0]]), HZ).tolist() == [[5]]
    assert undo(chain, np.array([[5.0]]), HZ).tolist() == [[1]]
    with pytest.raises(SpecError, match="shift_previous cannot be undone"):
        undo([Op("shift_previous")], np.zeros((1, 1)), HZ)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("euler_xyz_to_orto6d", "did you mean 'euler_xyz_to_ortho6d'"),
        ("scale", "scale takes a parameter, none is given"),
        ({"scale": 0}, "number that is not 0"),
        ({"scale": [2]}, "scale takes a parameter"),
        ({"scale": True}, "scale takes a parameter"),
        ({"scale": float("nan")}, "scale takes a parameter"),
        ({"scale": "3"}, "'3' is given"),
        ("scale:3", "did you mean 'scale'"),
        ({"affine": [0, 1]}, "a not 0"),
        ({"affine": 2}, "affine takes a parameter"),
        ({"clip": [1, 0]}, "low < high"),
        ({"permute": [0, 2]}, "in the new order"),
        ({"permute": 0}, "permute takes a parameter"),
        ({"invert": 1}, "invert takes no parameter"),
        ({"scale": 2, "div": 2}, "is not an op"),
        (3, "is not an op"),
        (None, "is not an op"),
    ],
)
def test_a_wrong_op_is_an_error_that_says_how_to_write_it(written: object, said: str):
    with pytest.raises(RdtError) as caught:
        parse_op(written)
    assert said in str(caught.value)


def test_widths_and_units_that_do_not_fit_are_errors():
    euler = Op("euler_xyz_to_ortho6d")
    with pytest.raises(RdtError, match="takes 3 columns, 4 are given"):
        euler.width_after(4)
    with pytest.raises(RdtError, match="gives 6 values, 3 are needed"):
        euler.width_before(3)
    with pytest.raises(RdtError, match="does not take deg"):
        euler.units_after(frozenset({"deg"}))
    assert Op("scale", (2.0,)).units_after(frozenset({"m"})) == {"m", "mm", "m/s", "mm/s", "1", "1/s"}
