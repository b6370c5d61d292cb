"""Independent float64 NumPy versions of what the package computes with Keras."""

import numpy as np

# Scaled so that a field keeps its mean square.
COLORS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
COLORS = COLORS / np.sqrt((COLORS**2).sum() / 3)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def logit(p):
    p = np.asarray(p, "float64")
    return np.log(p) - np.log1p(-p)


def axis_functions(size, detail=1.0):
    """Return `(is_sine, frequency, norm)` of each function of an axis, as documented."""
    highest = int(size / 2 * detail)
    cosines = [(False, k, 1.0 if k in (0, size / 2) else 2**0.5) for k in range(highest + 1)]
    return cosines + [(True, k, 2**0.5) for k in range(1, min(highest, (size - 1) // 2) + 1)]


def axis_basis(positions, size, detail=1.0):
    """Return the trigonometric polynomials of an axis, `(positions, functions)`."""
    angles = 2 * np.pi * np.asarray(positions, "float64") / size
    functions = axis_functions(size, detail)
    return np.stack([n * (np.sin if s else np.cos)(k * angles) for s, k, n in functions], -1)


def axis_spectrum(size):
    """Return the same functions as weights of complex exponentials, `(size, functions)`."""
    weights = np.zeros((size, size), complex)
    for column, (sine, k, norm) in enumerate(axis_functions(size)):
        weights[k, column] += norm * (-0.5j if sine else 0.5)
        weights[-k, column] += norm * (0.5j if sine else 0.5)
    return weights


def fourier_scale(height, width, decay=1.0, lowest=1.0, detail=1.0):
    """Return the documented spectrum, normalised so that its squares sum to one."""
    longest = max(height, width)
    down = np.array([k / height for _, k, _ in axis_functions(height, detail)])
    across = np.array([k / width for _, k, _ in axis_functions(width, detail)])
    cycles = longest * np.sqrt(down[:, None] ** 2 + across[None] ** 2)
    scale = np.maximum(cycles, lowest) ** -float(decay)
    return scale / np.sqrt((scale**2).sum())


def fourier_coefficients(params, shape, decay=1.0, lowest=1.0, detail=1.0):
    """Return the coefficients of one image, of cosines and sines with an amplitude of one."""
    height, width, channels = shape
    norms = [[n for _, _, n in axis_functions(size, detail)] for size in (height, width)]
    scale = fourier_scale(height, width, decay, lowest, detail) * np.outer(*norms)
    return np.einsum("dc,cij->dij", COLORS if channels == 3 else np.eye(channels), params * scale)


def coefficient_field(coefficients, shape):
    """Return the field `(height, width, channels)` of coefficients as those above."""
    rows, columns = (
        axis_basis(range(size), size) / [n for _, _, n in axis_functions(size)]
        for size in shape[:2]
    )
    return np.einsum("yi,cij,xj->yxc", rows, coefficients, columns)


def fourier_image(params, shape, decay=1.0, lowest=1.0, detail=1.0, window=None, mean=0.5):
    """Render one image `(height, width, channels)` in [0, 1] from its parameters."""
    height, width, channels = shape
    coefficients = params * fourier_scale(height, width, decay, lowest, detail)
    if channels == 3:
        coefficients = np.einsum("dc,cij->dij", COLORS, coefficients)
    rows, columns = (axis_basis(range(size), size, detail) for size in (height, width))
    field = np.einsum("yi,cij,xj->yxc", rows, coefficients, columns)
    if window is not None:
        fades = (np.exp(-((((np.arange(n) + 0.5) / n - 0.5) / window) ** 4)) for n in shape[:2])
        field *= np.multiply.outer(*fades)[..., None]
    return sigmoid(field + logit(mean))


def pixel_image(params, mean=0.5):
    """Render one image `(height, width, channels)` in [0, 1] from its parameters."""
    return sigmoid(params.transpose(1, 2, 0) + logit(mean))


def conv_net(image, kernel, bias, weights, logits_bias):
    """Return the outputs of a valid convolution with tanh, and of a dense layer after it."""
    size = kernel.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(image, size, axis=(0, 1))
    conv = np.tanh(np.einsum("yxcij,ijcd->yxd", windows, kernel) + bias)
    return {"conv": conv, "logits": conv.reshape(-1) @ weights + logits_bias}


def direction_score(outputs, vector, power):
    """Return the mean over all positions of `<x, v> max(0.1, cos)^power`."""
    products = (outputs * vector).sum(-1)
    lengths = np.linalg.norm(outputs, axis=-1) * np.linalg.norm(vector, axis=-1)
    return (products * np.maximum(products / lengths, 0.1) ** power).mean()


def total_variation(image):
    """Return the mean absolute difference of neighbours, down plus across."""
    return np.abs(np.diff(image, axis=0)).mean() + np.abs(np.diff(image, axis=1)).mean()


def central_differences(function, point, step=1e-5):
    """Return the gradient of a scalar function, coordinate by coordinate."""
    result = np.zeros_like(point)
    for index in np.ndindex(point.shape):
        ahead, behind = point.copy(), point.copy()
        ahead[index] += step
        behind[index] -= step
        result[index] = (function(ahead) - function(behind)) / (2 * step)
    return result
