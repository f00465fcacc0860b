/* SPDX-License-Identifier: Apache-2.0 */
/* Median nanoseconds of one IOMMU_IOAS_ALLOC or DESTROY. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include "iommukit-abi.h"

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int main(void)
{
	enum { COUNT = 20000 };
	static double times[COUNT];
	int fd = open("/dev/iommu", O_RDWR);

	if (fd < 0)
		return 1;
	for (int i = 0; i < COUNT; i += 2) {
		struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
		double start = now();

		if (ioctl(fd, IOMMU_IOAS_ALLOC, &alloc))
			return 1;
		double middle = now();
		struct iommu_destroy destroy = { .size = sizeof(destroy), .id = alloc.out_ioas_id };
		if (ioctl(fd, IOMMU_DESTROY, &destroy))
			return 1;
		times[i] = middle - start;
		times[i + 1] = now() - middle;
	}
	qsort(times, COUNT, sizeof(times[0]), compare);
	printf("%.1f\n", times[COUNT / 2]);
	return 0;
}
