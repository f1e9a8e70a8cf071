# SPDX-License-Identifier: Apache-2.0
"""Import of archives, parquet files and hub data sets into a folder of images."""
