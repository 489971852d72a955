"""The colors of the semantic map: entry 10 * j of OpenCV's VIRIDIS color map for SMPL joint j."""

import numpy as np

# sRGB bytes; a vertex takes the color of the joint with its largest skinning weight.
PART_COLORS = np.array(
    [
        (68, 1, 84),  # 0 pelvis
        (71, 16, 99),  # 1 left thigh
        (72, 29, 111),  # 2 right thigh
        (71, 42, 122),  # 3 spine1
        (69, 55, 129),  # 4 left calf
        (65, 66, 135),  # 5 right calf
        (61, 78, 138),  # 6 spine2
        (56, 89, 140),  # 7 left ankle
        (51, 99, 141),  # 8 right ankle
        (46, 109, 142),  # 9 spine3
        (42, 118, 142),  # 10 left foot
        (39, 128, 142),  # 11 right foot
        (35, 137, 142),  # 12 neck
        (32, 146, 140),  # 13 left collar
        (30, 156, 137),  # 14 right collar
        (33, 165, 133),  # 15 head
        (40, 174, 128),  # 16 left upper arm
        (53, 183, 121),  # 17 right upper arm
        (70, 192, 111),  # 18 left forearm
        (90, 200, 100),  # 19 right forearm
        (112, 207, 87),  # 20 left palm
        (137, 213, 72),  # 21 right palm
        (162, 218, 55),  # 22 left fingers
        (189, 223, 38),  # 23 right fingers
    ],
    dtype=np.uint8,
)
