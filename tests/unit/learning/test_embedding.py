"""Which columns of an embedding are what."""

import numpy as np

from moma_cl.backbones.cgcnn import CGCNNBackbone
from moma_cl.learning.embedding import N_STATISTICS, embed, last_extremes, moment_columns
from moma_cl.recipe import EmbeddingSettings
from moma_cl.structures.crystals import Crystal

SALT = Crystal(
    lattice=4.0 * np.eye(3),
    atomic_numbers=np.array([11, 17]),
    frac_coords=np.array([[0, 0, 0], [0.5, 0.5, 0.5]]),
)


def test_moments_are_the_first_two_statistics_of_every_block():
    encoder = CGCNNBackbone.pretrained()
    (embedded,) = embed(encoder, encoder.to_graphs([SALT]), EmbeddingSettings())
    width = encoder.feature_dim
    statistics = embedded.reshape(encoder.n_blocks, N_STATISTICS, width)
    columns = moment_columns(len(embedded), width)
    assert embedded[columns].tolist() == statistics[:, :2].ravel().tolist()
    mean, deviation, least, most = statistics[-1]
    # of two atoms, the mean lies in the middle and the deviation is half of what is between them
    np.testing.assert_allclose(mean, (least + most) / 2, atol=1e-5)
    np.testing.assert_allclose(deviation, (most - least) / 2, atol=1e-3)
    assert last_extremes(embedded[None], width)[0].tolist() == [*least, *most]
