-- SPDX-License-Identifier: Apache-2.0
--
-- A design for the tests of `fpsim verify --dut`, in VHDL: acc <= acc + x * w in quarters, E2M1
-- operands, with an enable and a clear; the sum is registered.
library ieee;
use ieee.std_logic_1164.all;
use ieee.numeric_std.all;

entity vhdl_mac is
  generic (
    WIDTH : positive := 16
  );
  port (
    clk    : in  std_logic;
    rst    : in  std_logic;
    enable : in  std_logic;
    clear  : in  std_logic;
    x      : in  std_logic_vector(3 downto 0);
    w      : in  std_logic_vector(3 downto 0);
    sum    : out std_logic_vector(WIDTH - 1 downto 0)
  );
end entity;

architecture rtl of vhdl_mac is
  type table_t is array (0 to 7) of natural;
  constant HALVES : table_t := (0, 1, 2, 3, 4, 6, 8, 12);
  signal acc : signed(WIDTH - 1 downto 0);

  function product(a, b : std_logic_vector(3 downto 0)) return integer is
    variable magnitude : integer;
  begin
    magnitude := HALVES(to_integer(unsigned(a(2 downto 0))))
               * HALVES(to_integer(unsigned(b(2 downto 0))));
    if (a(3) xor b(3)) = '1' then
      return -magnitude;
    end if;
    return magnitude;
  end function;
begin
  process (clk) is
  begin
    if rising_edge(clk) then
      if rst = '1' or clear = '1' then
        acc <= (others => '0');
      elsif enable = '1' then
        acc <= acc + to_signed(product(x, w), WIDTH);
      end if;
    end if;
  end process;

  sum <= std_logic_vector(acc);
end architecture;
