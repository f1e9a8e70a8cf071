# SPDX-License-Identifier: Apache-2.0
"""Studies of layers, objectives and losses published after the paper."""
