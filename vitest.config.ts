import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: { conditions: ["@iommukit/source"] },
  ssr: { resolve: { conditions: ["@iommukit/source"] } },
  test: {
    include: ["packages/*/src/**/*.test.ts", "test/**/*.test.ts"],
    testTimeout: 30_000,
  },
});
