"""Predictions against a slow loop, and what must not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewlabel.engine import inference, runtime
from fewlabel.engine.inference import folded, predict_volume
from fewlabel.nets.unet import UNet, UNetConfig


def network(ndim=2, channels=1, norm="batch", classes=3, depth=3):
    generator = torch.Generator().manual_seed(ndim)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = UNet(UNetConfig(ndim=ndim, width=4, depth=depth, in_channels=channels, norm=norm), classes)
    for name, buffer in built.named_buffers():
        if name.endswith("running_var"):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
        elif name.endswith("running_mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.2)
    for name, parameter in built.named_parameters():
        if "norm" in name or name == "classifier.weight":
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return built.eval()


def volume(channels=1, depth=5, size=(16, 24), seed=0):
    return np.random.default_rng(seed).random((channels, depth, *size), dtype=np.float32)


def slow(net, array):
    """One slice at a time in float64, written out."""
    net = net.double().eval()
    planes = []
    for z in range(array.shape[1]):
        image = torch.from_numpy(array[:, z].astype(np.float64))
        mean, std = image.mean((1, 2), keepdim=True), image.std((1, 2), keepdim=True, correction=0)
        with torch.no_grad():
            planes.append(torch.softmax(net(((image - mean) / std)[None])[0], dim=0))
    net.float()
    return torch.stack(planes, dim=1).numpy()


def test_slices_equal_a_slow_loop():
    net, array = network(channels=2), volume(channels=2)
    found = predict_volume(net, array, precision="32")
    assert found.shape == (3, 5, 16, 24)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, slow(net, array), atol=2e-5)
    # The test would not see a mix-up of slices if they were all alike.
    assert np.abs(found[:, 0] - found[:, 1]).max() > 0.005


@pytest.mark.parametrize("batch", [1, 2, 3, 64])
def test_batch_does_not_matter(batch):
    net, array = network(), volume()
    found = predict_volume(net, array, batch=batch, precision="32")
    np.testing.assert_allclose(found, predict_volume(net, array, precision="32"), atol=1e-6)


def test_intensity_scale_and_offset_do_not_matter():
    net, array = network(), volume()
    found = predict_volume(net, 0.25 + 0.5 * array, precision="32")
    np.testing.assert_allclose(found, predict_volume(net, array, precision="32"), atol=1e-3)


def test_bfloat16_is_close_and_given_back_in_float32():
    net, array = network(), volume()
    half, full = predict_volume(net, array, precision="bf16"), predict_volume(net, array, precision="32")
    assert half.dtype == np.float32
    assert 0 < np.abs(half - full).mean() < 0.02
    np.testing.assert_allclose(half.sum(0), 1.0, atol=1e-6)


def test_auto_follows_the_hardware(monkeypatch):
    net, array = network(), volume()
    for there, precision in ((True, "bf16"), (False, "32")):
        monkeypatch.setattr(runtime, "has_bf16", lambda kind, there=there: there)
        np.testing.assert_array_equal(predict_volume(net, array), predict_volume(net, array, precision=precision))


def test_flips_are_averaged():
    net, array = network(), volume()
    singles = [
        np.flip(predict_volume(net, np.flip(array, axes).copy(), precision="32"), axes)
        for axes in ((), (3,), (2,), (2, 3))
    ]
    found = predict_volume(net, array, flip=True, precision="32")
    np.testing.assert_allclose(found, np.mean(singles, axis=0), atol=1e-6)
    assert np.abs(found - singles[0]).max() > 0.01
    mirrored = predict_volume(net, np.flip(array, 3).copy(), flip=True, precision="32")
    np.testing.assert_allclose(mirrored, np.flip(found, 3), atol=1e-6)


def test_odd_sizes_are_padded_and_cut_back():
    net = network()
    array = volume(size=(15, 21))
    found = predict_volume(net, array, precision="32")
    assert found.shape == (3, 5, 15, 21)
    # By hand: the standardised image with its last rows and columns repeated.
    images = inference.standardise(torch.from_numpy(array[0])[:, None])
    padded = torch.nn.functional.pad(images, (0, 3, 0, 1), mode="replicate")
    with torch.no_grad():
        wanted = torch.softmax(net(padded)[..., :15, :21], dim=1).movedim(1, 0)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


def test_the_networks_modes_are_left_as_found():
    net = network().train()
    net.encoder.eval()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    predict_volume(net, volume(), precision="32")
    assert net.training
    assert net.decoder.training
    assert not any(module.training for module in net.encoder.modules())
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())
    # Weights are no inference tensors: training goes on.
    net(torch.randn(2, 1, 16, 16)).sum().backward()


def test_modes_come_back_after_an_error(monkeypatch):
    net = network().train()
    with pytest.raises(RuntimeError):
        predict_volume(net, volume(channels=3), precision="32")
    assert net.training


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_folding_keeps_the_function_and_the_original(norm, ndim):
    net = network(ndim=ndim, norm=norm)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    twin = folded(net)
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())
    norms = [module for module in twin.modules() if isinstance(module, inference.BatchNorm)]
    assert not norms
    image = torch.randn(2, 1, *(16,) * ndim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(twin(image), net(image), atol=2e-4, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in twin.parameters())


def test_one_window_holds_a_small_volume():
    net = network(ndim=3)
    array = volume(depth=6, size=(16, 20))
    found = predict_volume(net, array, precision="32", window=(64, 64, 64))
    images = inference.standardise(torch.from_numpy(array[0])[:, None]).movedim(1, 0)[None]
    padded = torch.nn.functional.pad(images, (0, 0, 0, 0, 0, 2), mode="replicate")
    with torch.no_grad():
        wanted = torch.softmax(net(padded)[0, :, :6], dim=0)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


def test_windows_are_joined_with_the_middle_weighing_most():
    net = network(ndim=3, norm="instance")
    array = volume(depth=8, size=(24, 16))
    found = predict_volume(net, array, precision="32", window=(8, 16, 16))
    assert found.shape == (3, 8, 24, 16)
    np.testing.assert_allclose(found.sum(0), 1.0, atol=1e-5)
    images = inference.standardise(torch.from_numpy(array[0])[:, None]).movedim(1, 0)[None]
    with torch.no_grad():
        first, last = (net(images[..., start : start + 16, :])[0] for start in (0, 8))
    # Rows 0-7 are seen by the first window only, rows 16-23 by the last; between, the nearer centre counts more.
    alone = torch.softmax(torch.cat([first[:, :, :8], last[:, :, 8:]], dim=2), dim=0).numpy()
    np.testing.assert_allclose(found[:, :, :8], alone[:, :, :8], atol=1e-4)
    np.testing.assert_allclose(found[:, :, 16:], alone[:, :, 8:], atol=1e-4)
    near, far = torch.softmax(first, 0).numpy()[:, :, 8], torch.softmax(last, 0).numpy()[:, :, 0]
    assert np.abs(found[:, :, 8] - near).mean() < 0.5 * np.abs(found[:, :, 8] - far).mean()


def test_given_device_moves_the_network():
    net = network()
    found = predict_volume(net, volume(), device=torch.device("cpu"), precision="32")
    np.testing.assert_array_equal(found, predict_volume(net, volume(), device="cpu", precision="32"))
