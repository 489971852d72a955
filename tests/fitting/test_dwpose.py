"""DWPose's steps before and after its networks, which tiny ONNX graphs of the same shapes play."""

import sys

import numpy as np
import pytest
from PIL import Image

from champ_jax.common.errors import InputError
from champ_jax.fitting.dwpose import DETECTOR, POSE, DWPose, decode_simcc, suppress
from champ_jax.fitting.options import Options
from champ_jax.fitting.squares import Squares
from champ_jax.fitting.video import find_people

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SIZE = 640, 480  # width, height: the letterbox does not resize it
BOX = np.array([280.0, 140, 360, 380])  # of the person that the detector always sees


def model(nodes, output_shapes, input_shape, constants) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in output_shapes.items()]
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, input_shape)
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "network", [image], outputs, initializers)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def detector(cells: dict[int, list[float]]) -> bytes:
    """YOLOX that answers with these cells whatever it sees: x, y, log width, log height, score, class scores."""
    from onnx import helper

    raw = np.zeros((1, 8400, 85), np.float32)
    for index, values in cells.items():
        raw[0, index, : len(values)] = values
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["raw", "nothing"], ["output"]),
    ]
    constants = {"raw": raw, "zero": np.zeros(1, np.float32)}
    return model(nodes, {"output": [1, 8400, 85]}, [1, 3, 640, 640], constants)


def pose() -> bytes:
    """SimCC whose 133 points are all at the brightest place: maxima over rows and over columns, each place twice."""
    from onnx import helper

    nodes, constants = [], {}
    for name, axis, length in (("x", 2, 288), ("y", 3, 384)):
        constants |= {
            f"{name}_line": np.array([1, 1, length, 1]),
            f"{name}_wide": np.array([1, 133, length, 2]),
            f"{name}_flat": np.array([1, 133, 2 * length]),
        }
        nodes += [
            helper.make_node("ReduceMax", ["input"], [f"{name}1"], axes=[1, axis], keepdims=0),
            helper.make_node("Reshape", [f"{name}1", f"{name}_line"], [f"{name}2"]),
            helper.make_node("Expand", [f"{name}2", f"{name}_wide"], [f"{name}3"]),
            helper.make_node("Reshape", [f"{name}3", f"{name}_flat"], [f"simcc_{name}"]),
        ]
    shapes = {"simcc_x": [1, 133, 576], "simcc_y": [1, 133, 768]}
    return model(nodes, shapes, [1, 3, 384, 288], constants)


def cell(box, score: float, kind: int = 0) -> tuple[int, list[float]]:
    """The stride-16 cell whose answer is this box, written by YOLOX's definition."""
    x, y = (box[0] + box[2]) / 2 / 16, (box[1] + box[3]) / 2 / 16
    index = 80 * 80 + int(y) * 40 + int(x)
    sides = np.log((box[2] - box[0]) / 16), np.log((box[3] - box[1]) / 16)
    return index, [x - int(x), y - int(y), *sides, score, *(1.0 if k == kind else 0.0 for k in range(80))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("dwpose")
    others = [cell(BOX + 17, 0.6), cell([20, 20, 100, 300], 0.25), cell([400, 100, 500, 300], 0.9, kind=2)]
    (path / DETECTOR).write_bytes(detector(dict([cell(BOX, 0.8), *others])))
    (path / POSE).write_bytes(pose())
    return path


def picture(dot=(331, 205)) -> Image.Image:
    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    pixels[dot[1] - 2 : dot[1] + 3, dot[0] - 2 : dot[0] + 3] = 255
    return Image.fromarray(pixels)


def test_only_sure_people_are_kept_and_doubles_are_suppressed(folder):
    (found,) = DWPose(folder).detect([picture()])
    np.testing.assert_allclose(found.scores, [0.8], rtol=1e-6)
    squares = found.squares()
    np.testing.assert_allclose(squares.center, [[320, 260]], atol=1e-3)
    np.testing.assert_allclose(squares.side, [1.25 * 240], atol=1e-3)  # the crop is as high as 1.25 boxes


def test_boxes_of_a_larger_picture_are_in_its_pixels(folder):
    (found,) = DWPose(folder).detect([picture().resize((1280, 960))])
    np.testing.assert_allclose(found.squares().center, [[640, 520]], atol=1e-3)


def test_the_letterbox_is_bgr_in_the_upper_left_corner(folder, monkeypatch):
    networks = DWPose(folder)
    seen = []
    run = networks._run
    monkeypatch.setattr(networks, "_run", lambda name, image: (seen.append(image), run(name, image))[1])
    pixels = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    networks.detect([Image.fromarray(pixels)])
    np.testing.assert_array_equal(seen[0][:480], pixels[..., ::-1])
    assert np.all(seen[0][480:] == 114)


@pytest.mark.parametrize("side", [300.0, 384.0, 200.0])
def test_points_come_back_to_where_they_are_in_the_picture(folder, side):
    squares = Squares(np.array([[320.0, 200.0]]), np.array([side]), np.zeros(1))
    points, present = DWPose(folder).points([picture()], squares)
    assert present.all()
    assert np.abs(points[0, :, :2] - (331.5, 205.5)).max() < 3.5  # the dot's pixels all have the same brightness
    np.testing.assert_allclose(points[0, 0, 2], (255 - 103.53) / 57.375, rtol=1e-4)
    assert points[0, 1, 2] == 1  # the neck


def test_people_are_found_frame_by_frame(folder, tmp_path):
    for number in range(3):
        picture((331, 205 + 4 * number)).save(tmp_path / f"{number}.png")
    people = find_people(tmp_path, Options(detector="dwpose", dwpose_weights=str(folder)))
    keypoints = people.shots[0].chosen.keypoints
    assert keypoints.valid.all()
    np.testing.assert_allclose(keypoints.keypoints[:, 0, 1], [205.5, 209.5, 213.5], atol=3.5)
    np.testing.assert_allclose(np.diff(keypoints.keypoints[:, 0, 1]), 4, atol=1)


def test_suppression_counts_sides_as_the_reference_does():
    whole, scores = [0.0, 0, 9, 9], np.array([0.9, 0.7])  # 10 x 10 pixels
    np.testing.assert_array_equal(suppress(np.array([whole, [0, 0, 9, 3.4]]), scores), [0, 1])
    np.testing.assert_array_equal(suppress(np.array([whole, [0, 0, 9, 3.6]]), scores), [0])
    np.testing.assert_array_equal(suppress(np.array([whole, [0, 0, 9, 3.6]]), scores[::-1]), [1])


def test_a_point_is_as_sure_as_the_less_sure_of_its_maxima():
    x, y = np.zeros((2, 576)), np.zeros((2, 768))
    x[0, 101], y[0, 300] = 0.9, 0.4
    x[1], y[1] = -1, -2
    places, scores = decode_simcc(x, y)
    np.testing.assert_allclose(places[0], [50.5, 150])
    np.testing.assert_allclose(scores, [0.4, 0])


def test_what_is_missing_is_named_with_where_it_is_published(folder, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"yolox_l\.onnx: there is no such file; .*huggingface\.co/yzd-v/DWPose"):
        DWPose(tmp_path)
    (tmp_path / DETECTOR).write_bytes(b"no network")
    with pytest.raises(InputError, match=r"yolox_l\.onnx: is no network"):
        DWPose(tmp_path)
    (tmp_path / DETECTOR).write_bytes((folder / POSE).read_bytes())
    with pytest.raises(InputError, match=r"is another network than yolox_l"):
        DWPose(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"needs onnxruntime; pip install 'champ_jax\[fit\]'"):
        DWPose(folder)


@pytest.mark.parametrize(
    "options",
    [
        {"detector": "yolo"},
        {"detector": "dwpose"},
        {"dwpose_weights": "folder"},
        {"detector": "dwpose", "dwpose_weights": "folder", "tiles": "2"},
    ],
)
def test_settings_that_mean_nothing_are_refused(options):
    with pytest.raises(InputError, match="--"):
        Options(**options).check()
