/* SPDX-License-Identifier: Apache-2.0
 *
 * The first thing a user of iommufd does: bind a device, give it an address space, map
 * memory, let the device reach it, take it away again. Nothing in here knows that the
 * device is simulated.
 *
 *	iommu abi --c > iommukit-abi.h
 *	cc -I. -o dma-roundtrip examples/native/dma-roundtrip.c
 *	iommu run -- ./dma-roundtrip
 *
 * The device is iommukit's dma-test: packages/core/src/devices/dma-test.ts has its registers.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "iommukit-abi.h"

enum {
	REG_SOURCE = 0x08,
	REG_DESTINATION = 0x10,
	REG_LENGTH = 0x18,
	REG_COMMAND = 0x20,
	REG_STATUS = 0x24,
	REG_FAULT_ADDRESS = 0x30,
	COMMAND_COPY = 3,
	STATUS_DONE = 1,
	STATUS_REFUSED = 2,
};

#define IOVA 0x10000000ULL
#define LENGTH (2UL << 20)
#define PCI_COMMAND 0x04
#define PCI_COMMAND_MEMORY_AND_MASTER 0x06

static int failures;

static void check(int held, const char *what)
{
	printf("%s %s\n", held ? "ok    " : "FAILED", what);
	if (!held)
		failures++;
}

static void must(int result, const char *what)
{
	if (result >= 0)
		return;
	printf("FAILED %s: %s\n", what, strerror(errno));
	exit(1);
}

/* A region of the device, as VFIO_DEVICE_GET_REGION_INFO says where it is. */
static uint64_t region_offset(int device, uint32_t index)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

	must(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info), "VFIO_DEVICE_GET_REGION_INFO");
	return info.offset;
}

static void set_register(int device, uint64_t bar, int offset, uint64_t value, size_t size)
{
	if (pwrite(device, &value, size, (off_t)(bar + (uint64_t)offset)) != (ssize_t)size)
		must(-1, "pwrite of a register");
}

static uint64_t get_register(int device, uint64_t bar, int offset, size_t size)
{
	uint64_t value = 0;

	if (pread(device, &value, size, (off_t)(bar + (uint64_t)offset)) != (ssize_t)size)
		must(-1, "pread of a register");
	return value;
}

/* Tells the device to copy inside its address space; returns its status. */
static uint64_t device_copy(int device, uint64_t bar, uint64_t from, uint64_t to, uint32_t length)
{
	set_register(device, bar, REG_SOURCE, from, 8);
	set_register(device, bar, REG_DESTINATION, to, 8);
	set_register(device, bar, REG_LENGTH, length, 4);
	set_register(device, bar, REG_COMMAND, COMMAND_COPY, 4);
	return get_register(device, bar, REG_STATUS, 4);
}

int main(void)
{
	static const char message[] = "written by the program, moved by the device";
	int iommu = open("/dev/iommu", O_RDWR);
	must(iommu, "open /dev/iommu");
	int device = open("/dev/vfio/devices/vfio0", O_RDWR);
	must(device, "open /dev/vfio/devices/vfio0");

	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = iommu };
	must(ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind), "VFIO_DEVICE_BIND_IOMMUFD");
	printf("bound as device %u\n", bind.out_devid);

	uint64_t bar = region_offset(device, VFIO_PCI_BAR0_REGION_INDEX);
	uint64_t config = region_offset(device, VFIO_PCI_CONFIG_REGION_INDEX);
	uint16_t command = PCI_COMMAND_MEMORY_AND_MASTER;
	if (pwrite(device, &command, sizeof(command), (off_t)(config + PCI_COMMAND)) != (ssize_t)sizeof(command))
		must(-1, "enabling bus mastering");

	check(device_copy(device, bar, IOVA, IOVA + 4096, sizeof(message)) == STATUS_REFUSED, "before any attach the device's DMA is refused");

	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	must(ioctl(iommu, IOMMU_IOAS_ALLOC, &alloc), "IOMMU_IOAS_ALLOC");
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach), .pt_id = alloc.out_ioas_id };
	must(ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach), "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
	printf("attached to IOAS %u through page table %u\n", alloc.out_ioas_id, attach.pt_id);

	char *memory = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		must(-1, "mmap");
	memcpy(memory, message, sizeof(message));

	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = alloc.out_ioas_id,
		.user_va = (uintptr_t)memory,
		.length = LENGTH,
		.iova = IOVA,
	};
	must(ioctl(iommu, IOMMU_IOAS_MAP, &map), "IOMMU_IOAS_MAP");
	check(ioctl(iommu, IOMMU_IOAS_MAP, &map) == -1 && errno == EEXIST, "mapping the same addresses again is EEXIST");

	check(device_copy(device, bar, IOVA, IOVA + 4096, sizeof(message)) == STATUS_DONE, "the device copies inside the mapping");
	check(memcmp(memory + 4096, message, sizeof(message)) == 0, "the program's memory has changed");

	struct iommu_ioas_unmap unmap = { .size = sizeof(unmap), .ioas_id = alloc.out_ioas_id, .iova = IOVA, .length = LENGTH };
	must(ioctl(iommu, IOMMU_IOAS_UNMAP, &unmap), "IOMMU_IOAS_UNMAP");
	check(unmap.length == LENGTH, "the whole length was unmapped");
	check(device_copy(device, bar, IOVA, IOVA + 4096, sizeof(message)) == STATUS_REFUSED, "the next DMA is refused");
	check(get_register(device, bar, REG_FAULT_ADDRESS, 8) == IOVA, "the device knows the address that was refused");

	close(device);
	close(iommu);
	printf(failures == 0 ? "all is well\n" : "%d checks FAILED\n", failures);
	return failures == 0 ? 0 : 1;
}
