/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages on demand: the device asks for pages by PCIe page requests, the program reads them from a fault queue, maps
 * memory and answers, and the device goes on. Nothing is mapped before it is asked for, nothing is pinned.
 *
 *	iommu abi --c > iommukit-abi.h
 *	cc -I. -o page-fault examples/native/page-fault.c
 *	iommu run --machine examples/native/page-fault.json -- ./page-fault
 *
 * The device is iommukit's dma-test: packages/core/src/devices/dma-test.ts has its registers.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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
	COMMAND_COPY = 3,
	STATUS_DONE = 1,
	STATUS_REFUSED = 2,
	STATUS_WAITING = 4,
};

#define IOVA 0x10000000ULL
#define PAGE 4096ULL
#define LENGTH (8 * PAGE)
#define COPIED 2048
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

static uint32_t status(int device, uint64_t bar)
{
	uint32_t value = 0;

	if (pread(device, &value, sizeof(value), (off_t)(bar + REG_STATUS)) != sizeof(value))
		must(-1, "pread of a register");
	return value;
}

static void copy(int device, uint64_t bar, uint64_t from, uint64_t to)
{
	set_register(device, bar, REG_SOURCE, from, 8);
	set_register(device, bar, REG_DESTINATION, to, 8);
	set_register(device, bar, REG_LENGTH, COPIED, 4);
	set_register(device, bar, REG_COMMAND, COMMAND_COPY, 4);
}

/* Takes the next request from the queue. */
static struct iommu_hwpt_pgfault next_fault(int queue)
{
	struct pollfd ready = { .fd = queue, .events = POLLIN };
	struct iommu_hwpt_pgfault fault;

	if (poll(&ready, 1, 5000) != 1)
		must(-1, "poll of the fault queue");
	if (read(queue, &fault, sizeof(fault)) != sizeof(fault))
		must(-1, "read of the fault queue");
	return fault;
}

static void answer(int queue, uint32_t cookie, uint32_t code)
{
	struct iommu_hwpt_page_response response = { .cookie = cookie, .code = code };

	if (write(queue, &response, sizeof(response)) != sizeof(response))
		must(-1, "write of an answer");
}

int main(void)
{
	int iommu = open("/dev/iommu", O_RDWR);
	int device = open("/dev/vfio/devices/vfio0", O_RDWR);

	must(iommu, "open /dev/iommu");
	must(device, "open /dev/vfio/devices/vfio0");
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = iommu };
	must(ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind), "VFIO_DEVICE_BIND_IOMMUFD");
	uint64_t bar = region_offset(device, 0);
	set_register(device, region_offset(device, VFIO_PCI_CONFIG_REGION_INDEX), PCI_COMMAND, PCI_COMMAND_MEMORY_AND_MASTER, 2);

	struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
	must(ioctl(iommu, IOMMU_IOAS_ALLOC, &ioas), "IOMMU_IOAS_ALLOC");
	struct iommu_fault_alloc faults = { .size = sizeof(faults) };
	must(ioctl(iommu, IOMMU_FAULT_QUEUE_ALLOC, &faults), "IOMMU_FAULT_QUEUE_ALLOC");
	int queue = (int)faults.out_fault_fd;
	struct iommu_hwpt_alloc hwpt = {
		.size = sizeof(hwpt),
		.flags = IOMMU_HWPT_FAULT_ID_VALID,
		.dev_id = bind.out_devid,
		.pt_id = ioas.out_ioas_id,
		.fault_id = faults.out_fault_id,
	};
	must(ioctl(iommu, IOMMU_HWPT_ALLOC, &hwpt), "IOMMU_HWPT_ALLOC");
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach), .pt_id = hwpt.out_hwpt_id };
	must(ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach), "VFIO_DEVICE_ATTACH_IOMMUFD_PT");

	unsigned char *memory = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		must(-1, "mmap");
	for (size_t i = 0; i < LENGTH; i++)
		memory[i] = (unsigned char)(i * 7 + i / PAGE);

	/* Source and destination each cross from one page into the next: four pages, none of them mapped. */
	uint64_t from = PAGE - COPIED / 2, to = 5 * PAGE - COPIED / 2;
	int pages = 0;
	copy(device, bar, IOVA + from, IOVA + to);
	check(status(device, bar) == STATUS_WAITING, "the device waits for its first page");
	while (status(device, bar) == STATUS_WAITING && pages < 8) {
		struct iommu_hwpt_pgfault fault = next_fault(queue);
		struct iommu_ioas_map map = {
			.size = sizeof(map),
			.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
			.ioas_id = ioas.out_ioas_id,
			.user_va = (uint64_t)(uintptr_t)memory + (fault.addr - IOVA),
			.length = PAGE,
			.iova = fault.addr,
		};
		must(ioctl(iommu, IOMMU_IOAS_MAP, &map), "IOMMU_IOAS_MAP");
		answer(queue, fault.cookie, IOMMUFD_PAGE_RESP_SUCCESS);
		pages++;
	}
	check(pages == 4, "it asked for four pages");
	check(status(device, bar) == STATUS_DONE, "and went on when they were there");
	check(memcmp(memory + from, memory + to, COPIED) == 0, "the bytes are where they belong");

	/* What is taken away is asked for again, and may be refused. */
	struct iommu_ioas_unmap unmap = { .size = sizeof(unmap), .ioas_id = ioas.out_ioas_id, .iova = IOVA, .length = LENGTH };
	must(ioctl(iommu, IOMMU_IOAS_UNMAP, &unmap), "IOMMU_IOAS_UNMAP");
	copy(device, bar, IOVA + from, IOVA + to);
	check(status(device, bar) == STATUS_WAITING, "after the unmap it asks again");
	answer(queue, next_fault(queue).cookie, IOMMUFD_PAGE_RESP_INVALID);
	check(status(device, bar) == STATUS_REFUSED, "and takes no for an answer");

	puts(failures == 0 ? "all is well" : "something is wrong");
	return failures != 0;
}
