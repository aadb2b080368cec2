// SPDX-License-Identifier: Apache-2.0
//
// Where the operands of one MAC of a systolic array meet: a beat from the west and one from the north
// are told to the MAC together, and go on to the east and to the south a clock later.
//
// Nothing moves unless all of it can: both beats are there, go_i is 1, the MAC takes them, and the next
// cells have room. So a stall anywhere holds back what depends on it and loses nothing; without one a
// cell takes a beat every clock. EAST = 0, SOUTH = 0: there is no cell on that side.
//
// ready runs back through the array in the same clock, from the last cell to the first.
module array_cell #(
    parameter int W_W   = 4,
    parameter int N_W   = 4,
    parameter int EAST  = 1,
    parameter int SOUTH = 1
) (
    input  logic           clk_i,
    input  logic           rst_ni,       // asynchronous, active low: no beat is here
    input  logic           w_valid_i,
    output logic           w_ready_o,
    input  logic [W_W-1:0] w_data_i,
    input  logic           n_valid_i,
    output logic           n_ready_o,
    input  logic [N_W-1:0] n_data_i,
    input  logic           go_i,
    output logic           mac_valid_o,  // the MAC takes w_data_i and n_data_i as they are
    input  logic           mac_ready_i,
    output logic           e_valid_o,
    input  logic           e_ready_i,
    output logic [W_W-1:0] e_data_o,
    output logic           s_valid_o,
    input  logic           s_ready_i,
    output logic [N_W-1:0] s_data_o
);

  logic e_room, s_room, moves;

  assign mac_valid_o = w_valid_i & n_valid_i & go_i & e_room & s_room;
  assign moves       = mac_valid_o & mac_ready_i;
  assign w_ready_o   = moves;
  assign n_ready_o   = moves;

  stream_pipe #(
      .W(W_W), .DEPTH(EAST)
  ) u_east (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(moves), .ready_o(e_room), .data_i(w_data_i),
      .valid_o(e_valid_o), .ready_i(e_ready_i), .data_o(e_data_o)
  );

  stream_pipe #(
      .W(N_W), .DEPTH(SOUTH)
  ) u_south (
      .clk_i(clk_i), .rst_ni(rst_ni), .valid_i(moves), .ready_o(s_room), .data_i(n_data_i),
      .valid_o(s_valid_o), .ready_i(s_ready_i), .data_o(s_data_o)
  );

endmodule
