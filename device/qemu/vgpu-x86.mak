# Devices in the QEMU of this project's tests and demo: the two PC machines, what a small Linux guest commonly uses, and
# vgpu-stub. Used with --without-default-devices --with-devices-x86_64=vgpu-x86.
CONFIG_I440FX=y
CONFIG_Q35=y
CONFIG_PCIE_PORT=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_NET=y
CONFIG_VIRTIO_RNG=y
CONFIG_VIRTIO_SERIAL=y
CONFIG_VGPU_STUB=y
