"""What other projects published, read here: architectures of MMnas and NAS-VQA, checkpoints of mcan-vqa and mmnas."""
