"""What stock nnU-Net (2.8) finds of ours: put this folder into its variable `nnUNet_extTrainer`."""
