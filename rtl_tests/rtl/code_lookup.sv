// SPDX-License-Identifier: Apache-2.0
//
// Codes of an operand to the codes that the multiplier takes; combinational. Those of formats whose 16
// codes of 4 bits mean arbitrary numbers, such as NF4, by a table; without one they are the same.
//
//   code_o = entry code_i of TABLE, whose entry i stands in TABLE_ENTRY bits from bit i * TABLE_ENTRY on
module code_lookup #(
    parameter int N = 1,                                   // codes
    parameter int W = 16,                                  // of the multiplier's operand, up to TABLE_ENTRY
    parameter logic [fpsim_pkg::TABLE_W-1:0] TABLE = '0,   // 0: none
    // derived, do not change
    parameter int IN_W = (TABLE != '0) ? fpsim_pkg::TABLE_CODE : W
) (
    input  logic [N*IN_W-1:0] code_i,
    output logic [N*W-1:0]    code_o
);

  generate
    if (TABLE == '0) begin : g_same
      assign code_o = code_i;
    end else begin : g_table
      for (genvar i = 0; i < N; i++) begin : g_code
        logic [fpsim_pkg::TABLE_CODE-1:0] code;
        logic [W-1:0] entry;

        assign code = code_i[i*fpsim_pkg::TABLE_CODE+:fpsim_pkg::TABLE_CODE];
        always_comb begin
          case (code)
            4'd0:   entry = TABLE[0*fpsim_pkg::TABLE_ENTRY+:W];
            4'd1:   entry = TABLE[1*fpsim_pkg::TABLE_ENTRY+:W];
            4'd2:   entry = TABLE[2*fpsim_pkg::TABLE_ENTRY+:W];
            4'd3:   entry = TABLE[3*fpsim_pkg::TABLE_ENTRY+:W];
            4'd4:   entry = TABLE[4*fpsim_pkg::TABLE_ENTRY+:W];
            4'd5:   entry = TABLE[5*fpsim_pkg::TABLE_ENTRY+:W];
            4'd6:   entry = TABLE[6*fpsim_pkg::TABLE_ENTRY+:W];
            4'd7:   entry = TABLE[7*fpsim_pkg::TABLE_ENTRY+:W];
            4'd8:   entry = TABLE[8*fpsim_pkg::TABLE_ENTRY+:W];
            4'd9:   entry = TABLE[9*fpsim_pkg::TABLE_ENTRY+:W];
            4'd10:  entry = TABLE[10*fpsim_pkg::TABLE_ENTRY+:W];
            4'd11:  entry = TABLE[11*fpsim_pkg::TABLE_ENTRY+:W];
            4'd12:  entry = TABLE[12*fpsim_pkg::TABLE_ENTRY+:W];
            4'd13:  entry = TABLE[13*fpsim_pkg::TABLE_ENTRY+:W];
            4'd14:  entry = TABLE[14*fpsim_pkg::TABLE_ENTRY+:W];
            default: entry = TABLE[15*fpsim_pkg::TABLE_ENTRY+:W];
          endcase
        end
        assign code_o[i*W+:W] = entry;
      end
    end
  endgenerate

endmodule
