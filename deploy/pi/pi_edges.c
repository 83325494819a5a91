// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * pi_edges - edges for the pins of QEMU's raspi3b. For tests only.
 *
 * QEMU has the registers of the BCM2837's GPIO block but no edge detection, and
 * only Raspberry Pi's own kernel has /dev/gpiomem. This module is a second
 * gpiochip on the same registers, with the label that programs look for. It
 * polls the levels (GPLEV0) every two milliseconds and raises an interrupt for
 * each change that is waited for; and it provides /dev/gpiomem.
 * Pins 0 to 31, which include the whole header, named as on a Pi.
 *
 * A line that is freed becomes an input, as upstream's pinctrl-bcm2835 does.
 * Lines whose bit is set in the parameter `unreadable` cannot be read.
 */
#include <linux/gpio/driver.h>
#include <linux/hrtimer.h>
#include <linux/io.h>
#include <linux/irq.h>
#include <linux/irqdomain.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>

#define BLOCK 0x3f200000ul
#define BLOCK_SIZE 0xb4
#define PINS 32
#define PERIOD_NS (2 * NSEC_PER_MSEC)

/* BCM2835 ARM peripherals, section 6.1: three bits per pin, ten pins per word. */
#define GPFSEL(pin) (4 * ((pin) / 10))
#define GPFSEL_SHIFT(pin) (3 * ((pin) % 10))
#define GPSET0 0x1c
#define GPCLR0 0x28
#define GPLEV0 0x34
#define FUNCTION_INPUT 0u
#define FUNCTION_OUTPUT 1u

static void __iomem *block;
static struct hrtimer timer;
static u32 levels, rising, falling, awaited;

static unsigned int unreadable;
module_param(unreadable, uint, 0644);

static const char *const names[PINS] = {
	"GPIO0", "GPIO1", "GPIO2", "GPIO3", "GPIO4", "GPIO5", "GPIO6", "GPIO7",
	"GPIO8", "GPIO9", "GPIO10", "GPIO11", "GPIO12", "GPIO13", "GPIO14", "GPIO15",
	"GPIO16", "GPIO17", "GPIO18", "GPIO19", "GPIO20", "GPIO21", "GPIO22", "GPIO23",
	"GPIO24", "GPIO25", "GPIO26", "GPIO27", "GPIO28", "GPIO29", "GPIO30", "GPIO31",
};

static u32 function_of(unsigned int pin)
{
	return (readl(block + GPFSEL(pin)) >> GPFSEL_SHIFT(pin)) & 7;
}

static void set_function(unsigned int pin, u32 function)
{
	u32 word = readl(block + GPFSEL(pin)) & ~(7u << GPFSEL_SHIFT(pin));

	writel(word | function << GPFSEL_SHIFT(pin), block + GPFSEL(pin));
}

static int edges_get(struct gpio_chip *chip, unsigned int pin)
{
	if (unreadable & BIT(pin))
		return -EIO;
	return !!(readl(block + GPLEV0) & BIT(pin));
}

static void edges_set(struct gpio_chip *chip, unsigned int pin, int value)
{
	writel(BIT(pin), block + (value ? GPSET0 : GPCLR0));
}

static int edges_direction_input(struct gpio_chip *chip, unsigned int pin)
{
	set_function(pin, FUNCTION_INPUT);
	return 0;
}

static void edges_free(struct gpio_chip *chip, unsigned int pin)
{
	set_function(pin, FUNCTION_INPUT);
}

static int edges_direction_output(struct gpio_chip *chip, unsigned int pin, int value)
{
	edges_set(chip, pin, value);
	set_function(pin, FUNCTION_OUTPUT);
	return 0;
}

static int edges_get_direction(struct gpio_chip *chip, unsigned int pin)
{
	return function_of(pin) == FUNCTION_OUTPUT ? GPIO_LINE_DIRECTION_OUT : GPIO_LINE_DIRECTION_IN;
}

static void edges_mask(struct irq_data *data)
{
	irq_hw_number_t pin = irqd_to_hwirq(data);

	awaited &= ~BIT(pin);
	gpiochip_disable_irq(irq_data_get_irq_chip_data(data), pin);
}

static void edges_unmask(struct irq_data *data)
{
	irq_hw_number_t pin = irqd_to_hwirq(data);

	gpiochip_enable_irq(irq_data_get_irq_chip_data(data), pin);
	awaited |= BIT(pin);
}

static int edges_set_type(struct irq_data *data, unsigned int type)
{
	u32 bit = BIT(irqd_to_hwirq(data));

	if (type & ~IRQ_TYPE_EDGE_BOTH)
		return -EINVAL;
	rising = type & IRQ_TYPE_EDGE_RISING ? rising | bit : rising & ~bit;
	falling = type & IRQ_TYPE_EDGE_FALLING ? falling | bit : falling & ~bit;
	return 0;
}

static const struct irq_chip edges_irq = {
	.name = "pi_edges",
	.irq_mask = edges_mask,
	.irq_unmask = edges_unmask,
	.irq_set_type = edges_set_type,
	.flags = IRQCHIP_IMMUTABLE,
	GPIOCHIP_IRQ_RESOURCE_HELPERS,
};

static struct gpio_chip edges = {
	.label = "pinctrl-bcm2835",
	.owner = THIS_MODULE,
	.base = -1,
	.ngpio = PINS,
	.names = names,
	.free = edges_free,
	.get = edges_get,
	.set = edges_set,
	.direction_input = edges_direction_input,
	.direction_output = edges_direction_output,
	.get_direction = edges_get_direction,
};

static enum hrtimer_restart look(struct hrtimer *which)
{
	u32 now = readl(block + GPLEV0), changed = now ^ levels;
	unsigned long fired = changed & awaited & ((now & rising) | (~now & falling));
	int pin;

	levels = now;
	for_each_set_bit(pin, &fired, PINS)
		generic_handle_domain_irq(edges.irq.domain, pin);
	hrtimer_forward_now(which, ns_to_ktime(PERIOD_NS));
	return HRTIMER_RESTART;
}

static int gpiomem_mmap(struct file *file, struct vm_area_struct *area)
{
	if (area->vm_pgoff || area->vm_end - area->vm_start > PAGE_SIZE)
		return -EINVAL;
	return remap_pfn_range(area, area->vm_start, BLOCK >> PAGE_SHIFT, PAGE_SIZE,
			       pgprot_noncached(area->vm_page_prot));
}

static const struct file_operations gpiomem_operations = {
	.owner = THIS_MODULE,
	.mmap = gpiomem_mmap,
};

static struct miscdevice gpiomem = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "gpiomem",
	.fops = &gpiomem_operations,
	.mode = 0660,
};

static int __init edges_init(void)
{
	int error;

	block = ioremap(BLOCK, BLOCK_SIZE);
	if (!block)
		return -ENOMEM;
	gpio_irq_chip_set_chip(&edges.irq, &edges_irq);
	edges.irq.handler = handle_simple_irq;
	edges.irq.default_type = IRQ_TYPE_NONE;
	error = gpiochip_add_data(&edges, NULL);
	if (error)
		goto unmap;
	error = misc_register(&gpiomem);
	if (error)
		goto remove;
	levels = readl(block + GPLEV0);
	hrtimer_init(&timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	timer.function = look;
	hrtimer_start(&timer, ns_to_ktime(PERIOD_NS), HRTIMER_MODE_REL_HARD);
	return 0;
remove:
	gpiochip_remove(&edges);
unmap:
	iounmap(block);
	return error;
}

static void __exit edges_exit(void)
{
	hrtimer_cancel(&timer);
	misc_deregister(&gpiomem);
	gpiochip_remove(&edges);
	iounmap(block);
}

module_init(edges_init);
module_exit(edges_exit);
MODULE_DESCRIPTION("Edges for the pins of QEMU's raspi3b, for tests");
MODULE_LICENSE("Dual MIT/GPL");
