// SPDX-License-Identifier: Apache-2.0
//
// Right designs with ports and protocols that benches get wrong; `tests` of both hold them to one
// verdict. Each adds products into ten bits (unit e2m1-fixed10q2).

// Works only if its parameters arrive whole.
module wide_parameters #(
    parameter logic [63:0] INIT = 64'd0,
    parameter logic [63:0] MASK = 64'd0,
    parameter              LOW  = 0,
    parameter              NAME = "none",
    parameter logic [1:0]  MODE = 2'd0
) (
    input  logic       clk,
    input  logic       clr,
    input  logic [3:0] a,
    input  logic [3:0] b,
    output logic [9:0] y
);
  wire right = INIT == 64'h80_1234_5678 && MASK == 64'h0000_0000_FFFF_FFFF && LOW == -5
            && NAME == "abc" && MODE == 2'd1;
  always_ff @(posedge clk) begin
    if (clr) y <= '0;
    else y <= y + (right ? awkward_pkg::term(a, b) : 10'd1);
  end
endmodule

// Names that libraries hide or give a meaning of their own.
module odd_names (
    input  logic       clk,
    input  logic       _clr,
    input  logic [3:0] _a,
    input  logic [3:0] value,
    output logic [9:0] _id
);
  always_ff @(posedge clk) begin
    if (_clr) _id <= '0;
    else _id <= _id + awkward_pkg::term(_a, value);
  end
endmodule

// Names as generators write them: escaped ones, and two underscores in a row.
module generated_names (
    input  logic       clk,
    input  logic       \in.clr ,
    input  logic [3:0] \in.payload.a ,
    input  logic [3:0] in__b,
    output logic [9:0] \out.y
);
  always_ff @(posedge clk) begin
    if (\in.clr ) \out.y  <= '0;
    else \out.y  <= \out.y  + awkward_pkg::term(\in.payload.a , in__b);
  end
endmodule

// Acts on falling edges of two clock ports, with two resets.
module falling_edges (
    input  logic       clk_a,
    input  logic       clk_b,
    input  logic       rst,
    input  logic       rst_n,
    input  logic       clr,
    input  logic [3:0] a,
    input  logic [3:0] b,
    output logic [9:0] y
);
  logic [9:0] product;
  logic clr_q;
  always_ff @(negedge clk_a) begin
    product <= awkward_pkg::term(a, b);
    clr_q <= clr;
  end
  always_ff @(negedge clk_b or posedge rst) begin
    if (rst) y <= '0;
    else if (!rst_n || clr_q) y <= '0;
    else y <= y + product;
  end
endmodule

// A pipe that flush and mode stop at any time, whether or not a beat is there.
module tied_pipe (
    input  logic       clk,
    input  logic       rst,
    input  logic       flush,
    input  logic [1:0] mode,
    input  logic       valid,
    input  logic       clr,
    input  logic [3:0] a,
    input  logic [3:0] b,
    output logic       done,
    output logic [9:0] y
);
  logic v1, v2, c1;
  logic [9:0] p1;
  always_ff @(posedge clk) begin
    if (rst || flush || mode != 2'd2) begin
      {v1, v2, done, y} <= '0;
    end else begin
      v1 <= valid;
      c1 <= clr;
      p1 <= awkward_pkg::term(a, b);
      done <= v1;
      if (v1) y <= c1 ? '0 : y + p1;
    end
  end
endmodule

// Never stops adding; only its reset clears it.
module free_running (
    input  logic       clk,
    input  logic       rst,
    input  logic [3:0] a,
    input  logic [3:0] b,
    output logic [9:0] y
);
  always_ff @(posedge clk or posedge rst) begin
    if (rst) y <= '0;
    else y <= y + awkward_pkg::term(a, b);
  end
endmodule

// A start takes four clocks, in which nothing else may come; operands must stand still.
module start_done (
    input  logic       clk,
    input  logic       rst,
    input  logic       start,
    input  logic [3:0] a,
    input  logic [3:0] b,
    input  logic [9:0] c,
    output logic       done,
    output logic [9:0] y
);
  logic [1:0] left;
  logic [3:0] a_q, b_q;
  logic [9:0] c_q;
  always_ff @(posedge clk) begin
    done <= 1'b0;
    if (rst) left <= '0;
    else if (start) begin
      left <= 2'd3;  // whatever was under way is lost
      {a_q, b_q, c_q} <= {a, b, c};
    end else if (left != 0) begin
      left <= left - 2'd1;
      done <= left == 2'd1;
      y <= c_q + awkward_pkg::term(a_q, b_q);
    end
  end
endmodule

// A result leaves in halves through a port of five bits, the low one first.
module two_halves (
    input  logic       clk,
    input  logic       rst,
    input  logic       valid,
    output logic       ready,
    input  logic [3:0] a,
    input  logic [3:0] b,
    input  logic [9:0] c,
    output logic       out_valid,
    input  logic       out_ready,
    output logic [4:0] out
);
  logic [9:0] held;
  logic [1:0] left;
  assign ready = left == 0;
  assign out_valid = left != 0;
  assign out = left == 2'd2 ? held[4:0] : held[9:5];
  always_ff @(posedge clk) begin
    if (rst) left <= '0;
    else if (valid && ready) begin
      held <= c + awkward_pkg::term(a, b);
      left <= 2'd2;
    end else if (out_valid && out_ready) left <= left - 2'd1;
  end
endmodule

// Wrong: a result that waits is lost where the next one comes.
module loses_results (
    input  logic       clk,
    input  logic       rst,
    input  logic       valid,
    input  logic [3:0] a,
    input  logic [3:0] b,
    input  logic [9:0] c,
    output logic       out_valid,
    input  logic       out_ready,
    output logic [9:0] y
);
  always_ff @(posedge clk) begin
    if (rst) out_valid <= 1'b0;
    else if (valid) begin
      out_valid <= 1'b1;
      y <= c + awkward_pkg::term(a, b);
    end else if (out_ready) out_valid <= 1'b0;
  end
endmodule

// Wrong after forty products, and then it ends the simulation.
module ends_early (
    input  logic       clk,
    input  logic       rst,
    input  logic [3:0] a,
    input  logic [3:0] b,
    input  logic [9:0] c,
    output logic [9:0] y
);
  logic [7:0] count;
  always_ff @(posedge clk) begin
    if (rst) count <= '0;
    else begin
      count <= count + 8'd1;
      y <= c + awkward_pkg::term(a, b) + {9'd0, count > 8'd40};
      if (count == 8'd60) $finish;
    end
  end
endmodule

// A control that comes two clocks after its data.
module late_control (
    input  logic       clk,
    input  logic       clr,
    input  logic [3:0] a,
    input  logic [3:0] b,
    output logic [9:0] y
);
  logic [9:0] first, second;
  always_ff @(posedge clk) begin
    first  <= awkward_pkg::term(a, b);
    second <= first;
    if (clr) y <= '0;
    else y <= y + second;
  end
endmodule

// Two beats of padding before each vector; a result leaves when the next vector comes in.
module pushed_out (
    input  logic       clk,
    input  logic       rst,
    input  logic       valid,
    input  logic [1:0] kind,
    input  logic [3:0] a,
    input  logic [3:0] b,
    input  logic [9:0] c,
    output logic       done,
    output logic [9:0] y
);
  logic have;
  logic [1:0] pads;
  logic [9:0] sum;
  always_ff @(posedge clk) begin
    done <= 1'b0;
    if (rst) begin
      have <= 1'b0;
      pads <= '0;
    end else if (valid && kind == 2'd3) begin
      pads <= pads + 2'd1;
    end else if (valid) begin
      pads <= '0;
      have <= 1'b1;
      done <= have;
      y    <= sum;
      sum  <= (pads == 2'd2) ? c + awkward_pkg::term(a, b) : '0;
    end
  end
endmodule
