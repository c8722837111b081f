"""Taking noise out of pictures: the law x_t = x0 + eps t/T, networks that predict eps, and what is built from them.

law        the noise law; denoising in one step and in many
networks   the two printed networks (docs/denoising.md), and one of this project's own parts
cifar      CIFAR-10 in the layouts that people have, and folders of pictures
samples    noisy samples to train on
model_file the denoiser's file
task       what `loop.fit` is told about training a denoiser
measure    loss, PSNR, SSIM and sharpness by level
figures    pictures of what a denoiser does
level      how much noise a picture has
picture    pictures of any size
cli        the commands
"""
